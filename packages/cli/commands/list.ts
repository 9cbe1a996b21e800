/** Every command, in the order of the help. */
import type { Add } from '../cli.ts'
import { addConfig } from './config.ts'
import { addDlq } from './dlq.ts'
import { addGroup } from './group.ts'
import { addIncidents } from './incidents.ts'
import { addMigrate } from './migrate.ts'
import { addPending } from './pending.ts'
import { addStatus } from './status.ts'

export const COMMANDS: readonly Add[] = [addStatus, addDlq, addPending, addGroup, addIncidents, addConfig, addMigrate]
