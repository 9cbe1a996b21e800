/** Every command, in the order of the help. */
import type { Add } from '../cli.ts'
import { addConfig } from './config.ts'
import { addMigrate } from './migrate.ts'

export const COMMANDS: readonly Add[] = [addConfig, addMigrate]
