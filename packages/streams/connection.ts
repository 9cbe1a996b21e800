/**
 * One connection to Redis that reconnects by itself.
 *
 * A command that is given while the connection is down is refused at once, because a queue of such commands would have
 * no bound. `classifyRedisError` turns that error into a `TransientError`, and the caller decides when to try again. A
 * reader that blocks needs a connection of its own: every other command on a blocked connection waits.
 */
import { createClient, ErrorReply } from 'redis'
import { FatalError, TransientError, describeError } from '@sluice/runtime/errors.ts'
import type { BackoffPolicy } from '@sluice/runtime/backoff.ts'

export type Redis = ReturnType<typeof newClient>

export interface ConnectOptions {
  url: string
  /** Shown by CLIENT LIST: role and purpose. */
  name: string
  signal?: AbortSignal
  /** Called when the connection is lost (with the error) and when it is back (without). */
  onState?: (error?: Error) => void
  limits?: Partial<ConnectionLimits>
}

export interface ConnectionLimits {
  connectMs: number
  reconnectMaxMs: number
  pingMs: number
  /** When the server leaves a ping unanswered for this long, the connection is replaced. Longer than any BLOCK. */
  silenceMs: number
}

const LIMITS: ConnectionLimits = { connectMs: 5_000, reconnectMaxMs: 3_000, pingMs: 10_000, silenceMs: 20_000 }

/**
 * When REDIS_URL leads to a replica, the connection is replaced again and again. At most this many checks (a minute)
 * pass between two replacements.
 */
const REPLICA_PAUSE_MAX = 6

/**
 * The wait between two tries of a command. It is short: while the connection is down, a try is refused by the client
 * and never leaves the process.
 */
export const REDIS_BACKOFF: BackoffPolicy = { baseMs: 100, capMs: 5_000, healthyAfterMs: 10_000 }

/**
 * Resolves when connected; tries without end until then, or until the signal. Fails only with errors that no wait can
 * cure.
 */
export async function connectRedis(options: ConnectOptions): Promise<Redis> {
  const limits = { ...LIMITS, ...options.limits }
  const client = newClient(options, limits)
  const { promise: fatal, reject } = Promise.withResolvers<never>()
  client.on('error', (error: Error) => {
    const classified = classifyRedisError(error)
    options.onState?.(classified)
    if (classified instanceof FatalError) reject(classified)
  })
  client.on('ready', () => options.onState?.())
  const { promise: aborted, reject: abort } = Promise.withResolvers<never>()
  const onAbort = () => abort(options.signal?.reason)
  options.signal?.addEventListener('abort', onAbort, { once: true })
  fatal.catch(() => {})
  aborted.catch(() => {})
  try {
    options.signal?.throwIfAborted()
    await Promise.race([client.connect(), fatal, aborted])
    ConnectionWatch.begin(client, limits, (error) => options.onState?.(error))
    return client
  } catch (error) {
    client.destroy()
    throw classifyRedisError(error)
  } finally {
    options.signal?.removeEventListener('abort', onAbort)
  }
}

function newClient({ url, name }: ConnectOptions, limits: ConnectionLimits) {
  if (!URL.canParse(url))
    throw new FatalError('REDIS_URL is not a URL; it looks like redis://user:password@host:6379/0')
  return createClient({
    url,
    // Redis accepts neither spaces nor unprintable characters in a name.
    name: name.replaceAll(/[^!-~]/g, '-'),
    // RESP3 replies parse at 0.9 µs an entry, RESP2 at 1.7 (2.7 with ioredis); measured with XREADGROUP COUNT 2000 of
    // 580-byte entries.
    RESP: 3,
    disableOfflineQueue: true,
    maintNotifications: 'disabled',
    socket: {
      connectTimeout: limits.connectMs,
      // For a server that accepts the connection and then says nothing. Once connected this limit is of no use: every
      // command that is sent restarts it.
      socketTimeout: limits.silenceMs + limits.pingMs,
      reconnectStrategy: (retries) => Math.random() * Math.min(limits.reconnectMaxMs, 100 * 2 ** Math.min(retries, 6)),
    },
  })
}

/**
 * Checks a connection at intervals until it is closed, and replaces it when it has become useless. Whatever waits on
 * the old connection is rejected then. There are two such cases:
 *
 * - A peer that vanished without a word leaves a connection that looks alive: the kernel gives up only after a
 *   quarter of an hour.
 * - A primary that became a replica (a failover by a DNS name or a proxy) goes on answering but refuses every write.
 *   Only a new connection leads to the server that was promoted.
 */
class ConnectionWatch {
  readonly #client: Redis
  readonly #silenceMs: number
  readonly #onLost: (error: Error) => void
  #isLooking = false
  #isReplacing = false
  #mayAskRole = true
  /**
   * How many more checks pass before a connection to a replica is replaced, and how many will pass before the
   * replacement after that.
   */
  #looksLeft = 0
  #nextPause = 1

  private constructor(client: Redis, silenceMs: number, onLost: (error: Error) => void) {
    this.#client = client
    this.#silenceMs = silenceMs
    this.#onLost = onLost
  }

  static begin(client: Redis, { pingMs, silenceMs }: ConnectionLimits, onLost: (error: Error) => void): void {
    const watch = new ConnectionWatch(client, silenceMs, onLost)
    const timer = setInterval(() => void watch.#look(), pingMs).unref()
    client.on('end', () => {
      if (!watch.#isReplacing) clearInterval(timer)
    })
  }

  async #look(): Promise<void> {
    if (this.#isLooking || !this.#client.isReady) return
    this.#isLooking = true
    const silence = setTimeout(() => this.#replace(`no answer for ${this.#silenceMs} ms`), this.#silenceMs)
    try {
      if (this.#mayAskRole) this.#checkRole(await this.#client.sendCommand(['ROLE']))
      else await this.#client.ping()
    } catch (error) {
      // A user or a proxy that may not use ROLE is not asked for it again, since each refusal is a line in ACL LOG. A
      // broken connection reports itself by its 'error' event.
      if (classifyRedisError(error) instanceof FatalError) this.#mayAskRole = false
    }
    clearTimeout(silence)
    this.#isLooking = false
  }

  /**
   * If REDIS_URL names a replica, every new connection leads to a replica again: so each time more checks pass before
   * the next replacement.
   */
  #checkRole(role: unknown): void {
    if (!isReplica(role)) {
      this.#looksLeft = 0
      this.#nextPause = 1
    } else if (this.#looksLeft > 0) {
      this.#looksLeft -= 1
    } else {
      this.#looksLeft = this.#nextPause
      this.#nextPause = Math.min(2 * this.#nextPause, REPLICA_PAUSE_MAX)
      this.#replace(
        'the server that REDIS_URL leads to is a replica and takes no writes. If that stays, name the primary',
      )
    }
  }

  #replace(why: string): void {
    this.#isReplacing = true
    this.#client.destroy()
    this.#isReplacing = false
    this.#onLost(new TransientError(`Redis: ${why}, connecting anew`))
    // Rejects when the owner closes the client before it has reconnected.
    this.#client.connect().catch(() => {})
  }
}

/** The time by the clock of Redis (Unix ms). */
export async function redisTimeMs(redis: Redis): Promise<number> {
  const [seconds, micros] = await redis.sendCommand<[string, string]>(['TIME'])
  return Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000)
}

/**
 * Only these two roles count. Other servers that speak this protocol have roles of their own and take writes, so a test
 * for "not master" would be wrong.
 */
function isReplica(role: unknown): boolean {
  return Array.isArray(role) && ['slave', 'replica'].includes(String(role[0]))
}

/** The group or the stream is gone: Redis was flushed, or failed over to a server that never had it. */
export class NoGroupError extends TransientError {
  override name = 'NoGroupError'
}

/**
 * Redis is at `maxmemory` and refuses commands that need more memory. Acks still work, so it recovers when consumers
 * drain the streams.
 */
export class RedisFullError extends TransientError {
  override name = 'RedisFullError'
}

/** A key that Sluice uses holds another program's data. */
export class WrongTypeError extends FatalError {
  override name = 'WrongTypeError'
}

/** Error codes by which a server refuses us, whatever the command and however long we wait. */
const REFUSALS = ['NOAUTH', 'WRONGPASS', 'NOPERM', 'DENIED', 'NOPROTO']
/** Refusals whose code is only `ERR`. The last begins what Redis 7.0 says of a command within a script. */
const REFUSED = /without any password configured|DB index is out of range|^ERR The user executing the script/
/** `ERR` means that a command is wrong, except for these messages. */
const PASSING = /max number of clients|loading|not allowed during|background/i

/**
 * Says what an error of a Redis command means.
 *
 * Transient: replies that a wait can cure (LOADING, READONLY, MASTERDOWN, MISCONF, BUSY, …) and every error of the
 * connection. Fatal: a refused password, a key of another type, or a command that Redis does not understand. A bug of
 * ours (TypeError, …) comes back unchanged.
 */
export function classifyRedisError(error: unknown): Error {
  if (!(error instanceof Error)) return new Error(describeError(error))
  if (error instanceof TransientError || error instanceof FatalError || error.name === 'AbortError') return error
  if (error instanceof ErrorReply) return classifyReply(error)
  if (error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError) return error
  const { code = '' } = error as NodeJS.ErrnoException
  const what = error.message || code || error.constructor.name
  return new TransientError(`Redis: ${what}${adviceOnTls(code)}`, { cause: error })
}

/** Codes of Node's checks of a certificate (https://nodejs.org/api/tls.html#x509-certificate-error-codes). */
const UNTRUSTED = /^(CERT_|CRL_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_CA$|ERR_TLS_CERT_)/

function adviceOnTls(code: string): string {
  if (UNTRUSTED.test(code)) {
    return '. Its TLS certificate is not trusted: name the one of its CA by NODE_EXTRA_CA_CERTS, and in REDIS_URL its host as its certificate does'
  }
  if (/^(ERR_SSL_|EPROTO$)/.test(code))
    return '. REDIS_URL begins with rediss://: does the server speak TLS at that port?'
  return ''
}

/** The answer of a command. @throws what `classifyRedisError` makes of an error */
export async function classified<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer
  } catch (error) {
    throw classifyRedisError(error)
  }
}

function classifyReply(cause: ErrorReply): Error {
  const { message } = cause
  const [code = ''] = message.split(' ', 1)
  // XINFO has another message when the whole stream is gone.
  if (code === 'NOGROUP' || message.startsWith('ERR no such key'))
    return new NoGroupError(`Redis has lost a stream or its consumer group: ${message}`, { cause })
  if (code === 'OOM') {
    return new RedisFullError(
      'Redis is at maxmemory and refuses writes; it recovers when the consumers drain, or with a higher maxmemory',
      { cause },
    )
  }
  if (REFUSALS.includes(code) || REFUSED.test(message)) {
    return new FatalError(
      `Redis refuses us: ${message}. Check the user, its permissions, the password and the database of REDIS_URL`,
      { cause },
    )
  }
  if (code === 'WRONGTYPE') {
    return new WrongTypeError(`${message}: another program uses the same keys. Give Sluice a database of its own`, {
      cause,
    })
  }
  if (/unknown command|unknown subcommand/i.test(message)) {
    return new FatalError(`Redis is too old or restricted: ${message}. Sluice needs Redis 7.0, Valkey 7.2 or newer`, {
      cause,
    })
  }
  if (['MOVED', 'CROSSSLOT'].includes(code)) {
    return new FatalError(
      `Redis runs as a cluster: ${message}. Sluice needs a single server, with replicas if wanted`,
      {
        cause,
      },
    )
  }
  if (code === 'ERR' && !PASSING.test(message)) {
    return new FatalError(
      `Redis does not understand a command of ours: ${message}. Sluice needs Redis 7.0, Valkey 7.2 or newer; with such a server this is a bug: report it`,
      { cause },
    )
  }
  return new TransientError(`Redis: ${message}`, { cause })
}
