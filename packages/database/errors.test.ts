import { DatabaseError } from 'pg'
import { describe, expect, test } from 'vitest'
import { DefectError, FatalError, RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import {
  FATAL_REASONS,
  PoolStarvedError,
  REFUSED_REASONS,
  RETRIED_REASONS,
  TRANSIENT_REASONS,
  classify,
  verdictOf,
} from './errors.ts'
import { reasonOf } from './testing/reason-of.ts'

function sqlError(code: string, message = 'it failed', severity = 'ERROR'): DatabaseError {
  return Object.assign(new DatabaseError(message, 0, 'error'), { code, severity })
}

function errno(code: string): Error {
  return Object.assign(new Error(`connect ${code}`), { code })
}

describe('each failure has its policy and its reason', () => {
  // prettier-ignore
  const cases: [code: string, policy: string, reason: string][] = [
    ['40001', 'now', 'serialization'], ['40P01', 'now', 'deadlock'], ['26000', 'now', 'stale-plan'],
    ['55P03', 'later', 'lock-timeout'], ['57014', 'later', 'statement-timeout'], ['25P03', 'later', 'statement-timeout'],
    ['57P01', 'later', 'starting'], ['57P02', 'later', 'starting'], ['57P03', 'later', 'starting'], ['57P04', 'later', 'starting'],
    ['57P05', 'later', 'starting'], ['53100', 'later', 'disk-full'], ['53200', 'later', 'out-of-memory'],
    ['53300', 'later', 'too-many-connections'], ['53400', 'later', 'out-of-memory'], ['25006', 'later', 'read-only'],
    ['08000', 'later', 'connection'], ['08006', 'later', 'connection'], ['58030', 'later', 'io'], ['XX000', 'later', 'internal'],
    ['40003', 'later', 'connection'],
    ['22021', 'refused', 'invalid-text'], ['22P05', 'refused', 'invalid-text'], ['22P02', 'refused', 'invalid-value'],
    ['22003', 'refused', 'invalid-value'], ['23505', 'refused', 'constraint'], ['23502', 'refused', 'constraint'],
    ['54000', 'refused', 'too-large'], ['54001', 'refused', 'too-large'],
    ['42P01', 'fatal', 'schema'], ['42703', 'fatal', 'schema'], ['22P03', 'fatal', 'schema'], ['3F000', 'fatal', 'schema'], ['42501', 'fatal', 'privilege'],
    ['42601', 'fatal', 'statement'], ['0A000', 'fatal', 'statement'], ['22P04', 'fatal', 'statement'], ['21000', 'fatal', 'statement'],
    ['28P01', 'fatal', 'login'], ['28000', 'fatal', 'login'], ['3D000', 'fatal', 'no-database'],
    ['XX001', 'fatal', 'corruption'], ['XX002', 'fatal', 'corruption'], ['42P05', 'fatal', 'pooler'],
  ]
  test.each(cases)('%s is %s: %s', (code, policy, reason) => {
    expect(verdictOf(sqlError(code))).toMatchObject({ policy, reason })
    expect((RETRIED_REASONS as readonly string[]).includes(reason)).toBe(policy === 'now')
    const Class = { now: TransientError, later: TransientError, refused: RefusedError, fatal: FatalError }[policy]!
    const classified = classify(sqlError(code), 'applying a batch')
    expect(classified).toBeInstanceOf(Class)
    expect((classified as Error).message).toContain(`applying a batch: it failed (${code})`)
    expect(reasonOf(classified)).toBe(reason)
  })

  test.each(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN', 'ENOENT'])(
    '%s is a lost connection',
    (code) => {
      expect(verdictOf(errno(code))).toMatchObject({ policy: 'later', reason: 'connection', discard: true })
    },
  )

  test.each([
    'Connection terminated',
    'Connection terminated unexpectedly',
    'Connection terminated due to connection timeout',
    'Client has encountered a connection error and is not queryable',
    'Query read timeout',
    'timeout expired',
  ])('pg saying "%s" is a lost connection', (text) => {
    expect(verdictOf(new Error(text))).toMatchObject({ policy: 'later', reason: 'connection', discard: true })
  })

  test('no reason is in two lists, since a reason decides the policy on a dashboard', () => {
    const all = [...TRANSIENT_REASONS, ...REFUSED_REASONS, ...FATAL_REASONS]
    expect(new Set(all).size).toBe(all.length)
  })
})

test('a plan that a change of the schema made stale is tried again on a new connection', () => {
  const error = sqlError('0A000', 'cached plan must not change result type')
  expect(verdictOf(error)).toMatchObject({ policy: 'now', reason: 'stale-plan', discard: true })
  const other = Object.assign(sqlError('0A000', 'Ergebnistyp darf sich nicht ändern'), {
    routine: 'RevalidateCachedQuery',
  })
  expect(verdictOf(other)).toMatchObject({ policy: 'now', reason: 'stale-plan', discard: true })
})

test.each([
  'database is not accepting commands that assign new transaction IDs to avoid wraparound data loss in database "bsky"',
  'database is not accepting commands to avoid wraparound data loss in database "bsky"',
  'database is not accepting commands that assign new MultiXactIds to avoid wraparound data loss in database "bsky"',
  'multixact "members" limit exceeded',
])('a server that has used up its numbers is no fault of an event: %s', (message) => {
  const error = classify(sqlError('54000', message), 'applying a batch') as TransientError
  expect(error).toBeInstanceOf(TransientError)
  expect(error.message).toContain('run VACUUM')
  expect(TRANSIENT_REASONS).toContain(reasonOf(error))
})

test.each(['GetNewTransactionId', 'GetNewMultiXactId'])('so in every language of the server: %s', (routine) => {
  const error = Object.assign(sqlError('54000', 'Datenbank nimmt keine Befehle an'), { routine })
  expect(classify(error, 'applying a batch')).toBeInstanceOf(TransientError)
})

test('a pooler that mixes sessions up is told as one, and is no fault of an event', () => {
  const prepared = sqlError('42P05', 'prepared statement "own" already exists')
  const statements = sqlError('08P01', 'transaction blocks not allowed in statement pooling mode', 'FATAL')
  for (const error of [prepared, statements]) {
    const told = classify(error, 'applying a batch') as FatalError
    expect([told.constructor, reasonOf(told)]).toEqual([FatalError, 'pooler'])
    expect(told.message).toContain('pool_mode=session')
  }
  expect(verdictOf(sqlError('08P01', 'query_wait_timeout', 'FATAL'))).toMatchObject({ policy: 'later' })
})

test.each([
  ['0A000', 'COPY FROM not supported with row-level security'],
  ['42501', 'query would be affected by row-level security policy for table "record"'],
])('a role that may not see every row is told, and no event is at fault: %s', (code, message) => {
  const told = classify(sqlError(code, message), 'applying a batch')
  expect([(told as Error).constructor, reasonOf(told)]).toEqual([FatalError, 'privilege'])
  expect((told as Error).message).toContain('BYPASSRLS')
})

test('an index row that is too large stays refused', () => {
  const error = sqlError('54000', 'index row size 2800 exceeds btree version 4 maximum 2704 for index "x"')
  expect(classify(error, 'applying a batch')).toMatchObject({ reason: 'too-large', name: 'RefusedError' })
})

test('of what is fatal only a wrong statement may be the doing of one event', () => {
  const isDefect = (code: string): boolean => classify(sqlError(code), 'applying a batch') instanceof DefectError
  expect(['42601', '21000', '22P04'].map(isDefect)).toEqual([true, true, true])
  expect(['42501', '42P01', 'XX002', '28P01', '40001', '23505'].some(isDefect)).toBe(false)
})

test('an error that ends the session discards the connection, whatever its code', () => {
  expect(verdictOf(sqlError('53300', 'x', 'FATAL'))?.discard).toBe(true)
  expect(verdictOf(sqlError('40P01'))?.discard).toBe(false)
  expect(verdictOf(sqlError('23505'))?.discard).toBe(false)
  expect(verdictOf(sqlError('25006'))?.discard).toBe(true)
})

test('the message of a missing table names the command that makes it', () => {
  const error = classify(sqlError('42P01', 'relation "record" does not exist'), 'applying a batch') as FatalError
  expect(error.message).toContain('relation "record" does not exist (42P01)')
  expect(error.message).toContain('run `sluice migrate`')
})

test('a long detail is cut: it can hold a whole row', () => {
  const error = Object.assign(sqlError('23505'), { constraint: 'like_pkey', detail: 'x'.repeat(10_000) })
  const { message } = classify(error, 'applying a batch') as Error
  expect(message).toContain('(23505, like_pkey)')
  expect(message.length).toBeLessThan(500)
})

test('an error that has its class, an abort, and one that is not the database’s stay as they are', () => {
  const errors = [
    new TransientError('a'),
    new RefusedError('b', 'c'),
    new FatalError('d'),
    new PoolStarvedError('e'),
    new DOMException('f', 'AbortError'),
    new TypeError('g'),
    'not an error',
  ]
  for (const error of errors) expect(classify(error, 'x')).toBe(error)
  expect(reasonOf(errors[3])).toBe('pool-starved')
  expect(reasonOf(errors[5])).toBeUndefined()
})
