/**
 * What each error of PostgreSQL means for us, as a table.
 *
 * `verdictOf` finds the row of an error by its SQLSTATE, its errno or pg's own text. `classify` wraps the error into
 * the class that decides the policy (`TransientError`, `RefusedError`, `FatalError`), with the SQLSTATE and the
 * operator's next step in the message.
 *
 * The rule behind the table: what a later try or another server may cure is transient; what the same row will always
 * cause is refused; what only a person can mend is fatal. In doubt an error is transient: that is loud and loses
 * nothing.
 */
import { DefectError, FatalError, RefusedError, TransientError, isAbort } from '@sluice/runtime/errors.ts'
import { POOLER_ADVICE } from './pooler.ts'

/** The reasons of a failure after which another try at once makes sense. */
export const RETRIED_REASONS = ['serialization', 'deadlock', 'stale-plan'] as const
// prettier-ignore
/** The reasons of a transient failure. */
export const TRANSIENT_REASONS = [
  ...RETRIED_REASONS, 'lock-timeout', 'statement-timeout', 'pool-starved', 'too-many-connections',
  'connection', 'starting', 'read-only', 'disk-full', 'out-of-memory', 'io', 'internal',
] as const
/** The reasons of a `RefusedError`: the data is at fault. */
export const REFUSED_REASONS = ['invalid-text', 'invalid-value', 'constraint', 'too-large'] as const
/** The reasons of a `FatalError`. */
export const FATAL_REASONS = [
  'schema',
  'privilege',
  'login',
  'no-database',
  'pooler',
  'corruption',
  'statement',
] as const

/** Every reason a failure of the database can have: closed lists, fit for a metric label. */
export type DatabaseReason = (typeof TRANSIENT_REASONS | typeof REFUSED_REASONS | typeof FATAL_REASONS)[number]
export type RefusedReason = (typeof REFUSED_REASONS)[number]
export type RetriedReason = (typeof RETRIED_REASONS)[number]

export interface Verdict {
  /** `now` and `later` are transient: the first is worth another try at once, the second only after a wait. */
  policy: 'now' | 'later' | 'refused' | 'fatal'
  reason: DatabaseReason
  /** What the operator does next. */
  advice: string
  /** The session is gone or must not be used again: close the connection. */
  discard: boolean
}

type Row = readonly [code: string, policy: Verdict['policy'], reason: DatabaseReason, advice?: string]

const PENDING = 'the schema is not what this version needs: run `sluice migrate`, and check DB_POSTGRES_SCHEMA'
const CORRUPT = 'the server reports damaged data: see its log and its disk; restore or reindex before starting again'
const UNREACHABLE = 'is PostgreSQL running, and reachable at DB_POSTGRES_URL? Trying again until it is'
const OURS = 'a fault of Sluice, or a version of PostgreSQL that it does not know (14 or newer is needed): report it'
const POLICIES = 'the role in DB_POSTGRES_URL must see every row: name the owner of the schema, or give it BYPASSRLS'
const EXHAUSTED =
  'PostgreSQL has no transaction numbers (or multixacts) left: run VACUUM in the database that its message names, end old transactions and replication slots ' +
  'that keep it from freezing. Nothing is lost, indexing goes on by itself'

// prettier-ignore
/**
 * The rows, by SQLSTATE: all five characters, or the first two for all other codes of a class
 * (https://www.postgresql.org/docs/current/errcodes-appendix.html). A code without a row means that a statement of ours
 * is wrong.
 */
const ROWS: readonly Row[] = [
  ['08',    'later',   'connection', UNREACHABLE],
  ['22',    'refused', 'invalid-value'],
  ['22021', 'refused', 'invalid-text'],               // a NUL, or bytes that are not UTF-8
  ['22P05', 'refused', 'invalid-text'],               // \u0000 in jsonb
  ['22P03', 'fatal',   'schema', PENDING],            // COPY got a value of another type than its column's
  ['22P04', 'fatal',   'statement', OURS],            // COPY got a row with the wrong number of values
  ['23',    'refused', 'constraint'],
  ['25006', 'later',   'read-only', 'the server is a standby, a failover is going on, or default_transaction_read_only is on; reconnecting until it can be written'],
  ['25P03', 'later',   'statement-timeout', 'a transaction sat idle for too long: is this process short of CPU?'],
  ['25P04', 'later',   'statement-timeout', 'transaction_timeout of the server is too short for a batch'],
  ['26000', 'now',     'stale-plan', POOLER_ADVICE],  // a pooler between us and the server lent us another session
  ['28',    'fatal',   'login', 'check user and password in DB_POSTGRES_URL, and pg_hba.conf of the server'],
  ['3D',    'fatal',   'no-database', 'create the database that DB_POSTGRES_URL names, or correct the URL'],
  ['3F',    'fatal',   'schema', PENDING],
  ['40',    'now',     'serialization'],
  ['40P01', 'now',     'deadlock'],
  ['40003', 'later',   'connection', 'the outcome of the statement is not known; it is applied again'],
  ['42501', 'fatal',   'privilege', 'grant the privilege, or name the owner of the schema in DB_POSTGRES_URL'],
  ['42703', 'fatal',   'schema', PENDING],
  ['42704', 'fatal',   'schema', PENDING],
  ['42883', 'fatal',   'schema', PENDING],
  ['42P01', 'fatal',   'schema', PENDING],
  ['42P05', 'fatal',   'pooler', POOLER_ADVICE],      // a name is prepared once in a session of ours: it is somebody else's too
  ['42P10', 'fatal',   'schema', PENDING],            // ON CONFLICT without its unique constraint
  ['53',    'later',   'out-of-memory', 'the server is out of a resource: see its log'],
  ['53100', 'later',   'disk-full', 'the disk of PostgreSQL is full: make room. Nothing is lost, indexing goes on by itself'],
  ['53300', 'later',   'too-many-connections', 'raise max_connections, or lower DB_POOL_SIZE of the daemons on this server'],
  ['54',    'refused', 'too-large'],                  // an index entry or a depth of nesting beyond the limits
  ['55',    'later',   'internal', 'the object is in use or not ready'],
  ['55P03', 'later',   'lock-timeout', 'another session holds the lock: see pg_stat_activity and pg_blocking_pids()'],
  ['57',    'later',   'starting', 'PostgreSQL is starting, stopping or recovering; trying again until it serves'],
  ['57014', 'later',   'statement-timeout', 'cancelled, or too slow: see pg_stat_activity for what it waits for'],
  ['58',    'later',   'io', 'the server cannot read or write its files: see its log and its disk'],
  ['58P01', 'fatal',   'corruption', CORRUPT],
  // Mostly temporary trouble ("tuple concurrently updated", "could not open relation with OID"). A dead letter would
  // lose good events because of a fault of the server, and a stop would mend nothing: so we wait, loudly.
  ['XX',    'later',   'internal', 'an internal error of PostgreSQL: see its log, and report it if it stays'],
  ['XX001', 'fatal',   'corruption', CORRUPT],
  ['XX002', 'fatal',   'corruption', CORRUPT],
]

const UNTRUSTED =
  'the TLS certificate of PostgreSQL is not trusted: name the one of its CA by NODE_EXTRA_CA_CERTS, or by sslrootcert in DB_POSTGRES_URL, and its host as the certificate does ' +
  '(sslmode=no-verify does not look at it). Trying again until it is'
const UNREADABLE = 'correct sslrootcert, sslcert or sslkey in DB_POSTGRES_URL, or let this user read the file'
/** Codes of Node's checks of a certificate (https://nodejs.org/api/tls.html#x509-certificate-error-codes), and of a TLS handshake that fails. */
const TLS_CODES =
  /^(CERT_|CRL_|UNABLE_TO_|ERROR_IN_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_CA$|PATH_LENGTH_|INVALID_PURPOSE$|HOSTNAME_MISMATCH$|ERR_TLS_|ERR_SSL_|EPROTO$)/

const BY_SQLSTATE = new Map(ROWS.map((row) => [row[0], row]))

// prettier-ignore
const ERRNOS: ReadonlySet<string> = new Set([
  'ECONNREFUSED', 'ECONNRESET', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'EHOSTDOWN', 'ENETUNREACH', 'ENETDOWN',
  'ENOTFOUND', 'EAI_AGAIN', 'EADDRNOTAVAIL', 'EMFILE', 'ENFILE', 'ENOBUFS', 'ENOENT', // ENOENT: the socket file of a server that is down
])

// prettier-ignore
/** pg's own errors have no code. */
const TEXTS: readonly (readonly [RegExp, Row])[] = [
  [/^(Connection terminated|Connection ended|Client has encountered a connection error|Client was closed)/, ['', 'later', 'connection', UNREACHABLE]],
  [/^(timeout expired|Query read timeout|There was an error establishing an SSL connection)/, ['', 'later', 'connection', UNREACHABLE]],
  [/^The server does not support SSL/, ['', 'fatal', 'login', 'take sslmode out of DB_POSTGRES_URL, or set the server up for TLS']],
  [/SASL|SCRAM/, ['', 'fatal', 'login', 'check user and password in DB_POSTGRES_URL, and pg_hba.conf of the server']],
]

/** After these failures the session is gone, is on the wrong server, or holds a plan that cannot be used. */
const DISCARD: ReadonlySet<DatabaseReason> = new Set([
  'connection',
  'starting',
  'read-only',
  'stale-plan',
  'io',
  'internal',
])

/** The verdict on an error of pg or of its socket; undefined for an error that is not the database's. */
export function verdictOf(error: unknown): Verdict | undefined {
  const row = rowOf(error)
  if (row === undefined) return undefined
  const [, policy, reason, advice = ''] = row
  return { policy, reason, advice, discard: DISCARD.has(reason) || policy === 'fatal' || endsSession(error) }
}

/**
 * Returns the error with its policy. `doing` says what failed (`applying a batch`). Errors that have a class already,
 * aborts, and errors that are not the database's come back unchanged.
 */
export function classify(error: unknown, doing: string): unknown {
  if (error instanceof TransientError || error instanceof RefusedError || error instanceof FatalError) return error
  const verdict = isAbort(error) ? undefined : verdictOf(error)
  if (verdict === undefined) return error
  const { policy, reason, advice } = verdict
  const text = `${doing}: ${describe(error as Error)}${advice && `. Next: ${advice}`}`
  if (policy === 'refused') return new RefusedError(reason as RefusedReason, text, { cause: error })
  if (policy !== 'fatal') return new TransientError(text, { cause: error })
  // Of all fatal errors only a wrong statement can be caused by the data in it.
  return reason === 'statement' ? new DefectError(text, { cause: error }) : new FatalError(text, { cause: error })
}

/** No connection of the pool became free in time. */
export class PoolStarvedError extends TransientError {
  override name = 'PoolStarvedError'
}

function rowOf(error: unknown): Row | undefined {
  if (!(error instanceof Error)) return undefined
  const code = codeOf(error)
  if (code !== undefined && 'severity' in error) {
    return (
      knownByMore(code, error) ??
      BY_SQLSTATE.get(code) ??
      BY_SQLSTATE.get(code.slice(0, 2)) ?? [code, 'fatal', 'statement', OURS]
    )
  }
  if (code !== undefined && TLS_CODES.test(code)) return [code, 'later', 'connection', UNTRUSTED]
  // Happens before a connection is tried: pg reads the certificate files that the URL names.
  if (code !== undefined && 'syscall' in error && error.syscall === 'open') return [code, 'fatal', 'login', UNREADABLE]
  if (code !== undefined && ERRNOS.has(code)) return [code, 'later', 'connection', UNREACHABLE]
  return TEXTS.find(([text]) => text.test(error.message))?.[1]
}

/**
 * The rows of errors that share their code with errors of another kind. The messages are in the language of the server
 * (lc_messages), the names of its routines are not.
 */
function knownByMore(code: string, error: Error): Row | undefined {
  const { message } = error
  const { routine = '' } = error as { routine?: string }
  // The columns of a table changed under a prepared statement. A new session plans the statement again.
  if (code === '0A000' && (routine === 'RevalidateCachedQuery' || message.includes('cached plan')))
    return [code, 'now', 'stale-plan']
  if (['0A000', '42501'].includes(code) && message.includes('row-level security'))
    return [code, 'fatal', 'privilege', POLICIES]
  // A server near the end of its transaction numbers refuses every write. The code is that of a value that is too
  // large, but no event is at fault.
  if (code === '54000' && (NUMBERS.test(routine) || /wraparound|multixact/i.test(message)))
    return [code, 'later', 'internal', EXHAUSTED]
  // PgBouncer's own.
  if (code === '08P01' && message.includes('statement pooling mode')) return [code, 'fatal', 'pooler', POOLER_ADVICE]
  return undefined
}

/** The routines of PostgreSQL that give out transaction numbers (varsup.c, multixact.c). */
const NUMBERS = /^(GetNewTransactionId|GetNewMultiXactId)$/

function codeOf(error: Error): string | undefined {
  return 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

function endsSession(error: unknown): boolean {
  const { severity } = error as { severity?: unknown }
  return severity === 'FATAL' || severity === 'PANIC'
}

const DETAIL_CHARS = 300

function describe(error: Error): string {
  const { table, constraint, detail } = error as { table?: string; constraint?: string; detail?: string }
  const message = error.message || 'no address could be connected' // an AggregateError over the addresses of a host
  const code = [codeOf(error), constraint ?? table].filter((part) => part !== undefined).join(', ')
  return `${message}${code && ` (${code})`}${detail === undefined ? '' : ` [${detail.slice(0, DETAIL_CHARS)}]`}`
}
