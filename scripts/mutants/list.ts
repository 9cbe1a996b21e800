/** Every mutant, by the part of the house that it is in. */
import { auditMutants } from './audit.ts'
import { bulkMutants } from './bulk.ts'
import { cliMutants } from './cli.ts'
import { convergenceMutants } from './convergence.ts'
import { engineMutants } from './engine.ts'
import { frameMutants } from './frame.ts'
import { intakeMutants } from './intake.ts'
import { machineMutants } from './machines.ts'
import type { Mutant } from './mutant.ts'
import { orderMutants } from './orders.ts'
import { placeMutants } from './places.ts'
import { pluginMutants } from './plugins.ts'
import { strangerMutants } from './strangers.ts'
import { streamsMutants } from './streams.ts'
import { trustMutants } from './trust.ts'
import { walkMutants } from './walks.ts'

export const MUTANTS: readonly Mutant[] = [
  ...convergenceMutants,
  ...walkMutants,
  ...orderMutants,
  ...engineMutants,
  ...bulkMutants,
  ...cliMutants,
  ...auditMutants,
  ...pluginMutants,
  ...streamsMutants,
  ...intakeMutants,
  ...strangerMutants,
  ...placeMutants,
  ...trustMutants,
  ...machineMutants,
  ...frameMutants,
]
