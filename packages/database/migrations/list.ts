/** All migrations, oldest first. To add one: write a file beside this one, list it here. */
import { appview } from './0001-appview.ts'
import { versions } from './0002-versions.ts'
import { threads, THREADS } from './0003-threads.ts'
import { accounts, ACCOUNTS } from './0004-accounts.ts'
import { bulk } from './0005-bulk.ts'
import { autovacuum } from './0006-autovacuum.ts'
import { smallTables } from './0007-small-tables.ts'
import { finders, FINDERS } from './0008-finders.ts'
import { purgeRevs } from './0009-purge-revs.ts'
import { unreadIndexes } from './0010-unread-indexes.ts'
import { accountChecks, ACCOUNT_CHECKS } from './0011-account-checks.ts'
import { deletionQueues, DELETION_INDEXES } from './0012-deletion-queues.ts'
import { settleLater, SETTLE_LATER } from './0013-settle-later.ts'
import { gatedSince, GATED_SINCE } from './0014-gated-since.ts'
import type { Migration } from './migration.ts'

export const MIGRATIONS: readonly Migration[] = [
  appview,
  versions,
  threads,
  accounts,
  bulk,
  autovacuum,
  smallTables,
  finders,
  purgeRevs,
  unreadIndexes,
  accountChecks,
  deletionQueues,
  settleLater,
  gatedSince,
]

/** How our own tables and indexes are made: what `doctor` looks for. */
export const OWN_STATEMENTS = [
  THREADS,
  ACCOUNTS,
  FINDERS,
  ACCOUNT_CHECKS,
  DELETION_INDEXES,
  SETTLE_LATER,
  GATED_SINCE,
].join('\n')
