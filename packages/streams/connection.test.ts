import { ClientOfflineError, ErrorReply, SocketClosedUnexpectedlyError } from 'redis'
import { FatalError, TransientError } from '@sluice/runtime/errors.ts'
import { expect, test } from 'vitest'
import { classifyRedisError, connectRedis, NoGroupError, RedisFullError } from './connection.ts'

const reply = (message: string) => classifyRedisError(new ErrorReply(message))

test.each([
  'LOADING Redis is loading the dataset in memory',
  "READONLY You can't write against a read only replica.",
  "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
  'MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist to disk.',
  'BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.',
  'NOREPLICAS Not enough good replicas to write.',
  'UNBLOCKED the stream key no longer exists',
  'ERR max number of clients reached',
])('waiting mends %s', (message) => {
  expect(reply(message)).toBeInstanceOf(TransientError)
})

test.each([
  'NOAUTH HELLO must be called with the client already authenticated',
  'WRONGPASS invalid username-password pair or user is disabled.',
  "NOPERM User default has no permissions to run the 'xreadgroup' command",
  'NOPROTO unsupported protocol version',
  'ERR DB index is out of range',
  'ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?',
])('no waiting mends %s, and the operator is sent to REDIS_URL', (message) => {
  expect(reply(message)).toBeInstanceOf(FatalError)
  expect(reply(message).message).toContain('REDIS_URL')
})

test.each([
  ["ERR unknown command 'XAUTOCLAIM', with args beginning with: 's'", '7.0'],
  ['WRONGTYPE Operation against a key holding the wrong kind of value script: 3db0, on @user_script:5.', 'same keys'],
  ["CROSSSLOT Keys in request don't hash to the same slot", 'cluster'],
  ['MOVED 3999 127.0.0.1:6381', 'cluster'],
  ["ERR wrong number of arguments for 'xack' command", 'does not understand'],
])('no waiting mends %s, and the message says why', (message, why) => {
  expect(reply(message)).toBeInstanceOf(FatalError)
  expect(reply(message).message).toContain(why)
})

test('a lost group and a full Redis have their own classes, inside a script too', () => {
  for (const message of [
    "NOGROUP No such key 's' or consumer group 'g' script: 3db0, on @user_script:1.",
    'ERR no such key',
    'ERR no such key script: fcf1, on @user_script:4.',
  ]) {
    expect(reply(message), message).toBeInstanceOf(NoGroupError)
  }
  expect(
    reply("OOM command not allowed when used memory > 'maxmemory'. script: 08be, on @user_script:1."),
  ).toBeInstanceOf(RedisFullError)
})

test('everything about the connection is transient, and says what happened', () => {
  const refused = Object.assign(new AggregateError([]), { code: 'ECONNREFUSED' })
  for (const error of [new SocketClosedUnexpectedlyError(), new ClientOfflineError(), refused]) {
    expect(classifyRedisError(error)).toBeInstanceOf(TransientError)
  }
  expect(classifyRedisError(refused).message).toContain('ECONNREFUSED')
})

test.each([
  ['SELF_SIGNED_CERT_IN_CHAIN', 'NODE_EXTRA_CA_CERTS'],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'NODE_EXTRA_CA_CERTS'],
  ['CERT_HAS_EXPIRED', 'NODE_EXTRA_CA_CERTS'],
  ['ERR_TLS_CERT_ALTNAME_INVALID', 'as its certificate does'],
  ['ERR_SSL_WRONG_VERSION_NUMBER', 'rediss://'],
  ['EPROTO', 'rediss://'],
])('what TLS says is waited for, with what to do: %s', (code, advice) => {
  const error = classifyRedisError(Object.assign(new Error('what OpenSSL says'), { code }))
  expect(error).toBeInstanceOf(TransientError)
  expect(error.message).toContain('what OpenSSL says')
  expect(error.message).toContain(advice)
})

test('a bug of ours stays one: it is not waited for', () => {
  const bug = new TypeError("Cannot read properties of null (reading 'length')")
  expect(classifyRedisError(bug)).toBe(bug)
})

test('a malformed REDIS_URL is refused without showing it', async () => {
  const failure = await connectRedis({ url: 'redis//secret@host', name: 'test' }).catch(
    (error: unknown) => error as Error,
  )
  expect(failure).toBeInstanceOf(FatalError)
  expect((failure as Error).message).not.toContain('secret')
})
