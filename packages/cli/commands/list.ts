/** Every command, in the order of the help. */
import type { Add } from '../cli.ts'
import { addBackfill } from './backfill.ts'
import { addBulk } from './bulk.ts'
import { addConfig } from './config.ts'
import { addDlq } from './dlq.ts'
import { addDoctor } from './doctor.ts'
import { addExplain } from './explain.ts'
import { addGroup } from './group.ts'
import { addIdentity } from './identity.ts'
import { addIncidents } from './incidents.ts'
import { addMigrate } from './migrate.ts'
import { addPending } from './pending.ts'
import { addPrune } from './prune.ts'
import { addRecount } from './recount.ts'
import { addRefused } from './refused.ts'
import { addSettle } from './settle.ts'
import { addStatus } from './status.ts'
import { addSweep } from './sweep.ts'
import { addVerify } from './verify.ts'

export const COMMANDS: readonly Add[] = [
  addStatus,
  addDoctor,
  addExplain,
  addDlq,
  addPending,
  addRefused,
  addGroup,
  addIncidents,
  addBackfill,
  addSweep,
  addVerify,
  addRecount,
  addSettle,
  addPrune,
  addBulk,
  addIdentity,
  addConfig,
  addMigrate,
]
