/** All migrations, oldest first. To add one: write a file beside this one, list it here. */
import { appview } from './0001-appview.ts'
import { versions } from './0002-versions.ts'
import { threads } from './0003-threads.ts'
import { accounts } from './0004-accounts.ts'
import { bulk } from './0005-bulk.ts'
import type { Migration } from './migration.ts'

export const MIGRATIONS: readonly Migration[] = [appview, versions, threads, accounts, bulk]
