/** At which revs a purge has removed an account's records. */
import type { ClientBase } from 'pg'
import type { Migration } from './migration.ts'

/**
 * `account_deletion.purgeRevs`: the marks and the watermark of a purge stand at these revs, and have to fall when the
 * account is back. Every purge that is gone on with uses the newest of them, so they are written down before the first
 * record goes. Null: none has begun, or an older version began it. A null column on a table of some thousand rows: for
 * an instant.
 */
export const purgeRevs: Migration = {
  name: '0009-purge-revs',
  async up(client: ClientBase) {
    await client.query('alter table account_deletion add column if not exists "purgeRevs" varchar[]')
  },
}
