/**
 * What every session of ours sets first, so that the settings of a role, a database or a server change neither what our
 * statements mean nor how long they may take.
 */

export interface SessionOptions {
  /** The schema of the AppView's tables; extensions are looked up in `public` after it. */
  schema: string
  /** The longest a statement may take, lock waits included; 0 means no limit. */
  statementMs: number
  /** Turn plans off that read or hash whole tables. Default false. */
  byKey?: boolean
}

/** The longest a transaction may sit idle, holding its locks. */
const IDLE_IN_TRANSACTION_MS = 60_000

/**
 * Settings that change the meaning of a statement, a value or an answer.
 *
 * - `array_nulls`: when it is off, a NULL in an array that is sent as text is the word "NULL". Every rev would then be
 *   newer than any real one, and every record would be passed over without a word.
 * - `row_security`: when it is on, a policy hides rows from us without a word. When it is off, the statement fails.
 * - The isolation level counts for single statements; `transaction` names its own.
 */
const MEANINGS = `set array_nulls to on; set row_security to off; set timezone to 'UTC'; set datestyle to 'ISO, MDY';
  set standard_conforming_strings to on; set extra_float_digits to 1; set default_transaction_isolation to 'read committed'`

/**
 * Limits that would end a session or a statement of ours before its own limit does: `transaction_timeout` would end the
 * build of an index each time it is begun. Not every version has all of them, and the version is not known yet.
 */
const LIMITS = ['lock_timeout', 'idle_session_timeout', 'transaction_timeout']
  .map((name) => `select set_config('${name}', '0', false) where current_setting('${name}', true) is not null`)
  .join('; ')

/** The statements for a session of a pool. */
export function sessionSettings({ schema, statementMs, byKey }: SessionOptions): string {
  return [
    MEANINGS,
    LIMITS,
    `set search_path to "${schema}", public`,
    `set statement_timeout to ${statementMs}`,
    `set idle_in_transaction_session_timeout to ${IDLE_IN_TRANSACTION_MS}`,
    // The planner overestimates the cost of a batch (unnest, a fresh temporary table) so much that it would compile,
    // which costs more than such a statement.
    'set jit to off',
    ...(byKey ? BY_KEY : []),
  ].join('; ')
}

/** The statements for the session of a migration, whose steps may take hours. */
export const MIGRATION_SETTINGS = `${MEANINGS}; ${LIMITS}; set statement_timeout to 0; set idle_in_transaction_session_timeout to 0`

/**
 * Turns off plans that read or hash whole tables, and incremental sorts.
 *
 * A plan is made while a table is empty, kept, and made again when autovacuum has counted the rows. Each time the
 * planner may find that a batch of 8,000 keys justifies reading a table of a billion rows. Starting with an empty
 * index: without the first three kinds of plan 72 µs of PostgreSQL an event and 13,000 events/s; with them 97 µs and
 * 9,900.
 *
 * An incremental sort would let the planner use an index whose order is only the beginning of the order that the
 * statement asks for (`packages/collections/by-key.ts`).
 */
const BY_KEY = ['seqscan', 'hashjoin', 'mergejoin', 'incremental_sort'].map((plan) => `set enable_${plan} to off`)
