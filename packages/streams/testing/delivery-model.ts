/**
 * A small model around one stream, for random interleavings: an upstream that can be read again from any cursor, a
 * producer, up to three consumers that come, go, fail and die, and a Redis that is flushed, killed and cut off. The
 * model keeps its own record of what happened.
 *
 * What must hold at any moment, and what `check` looks at: if the append of an event was confirmed, then the event was
 * processed, or its entry is in the stream, or its dead letter is stored. A death is a connection that ends without a
 * word, which is what Redis sees of a `kill -9`.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { TransientError } from '@sluice/runtime/errors.ts'
import { Random } from '@sluice/sandbox/random.ts'
import type { Redis as Server } from '@sluice/sandbox/redis.ts'
import { connectRedis, type Redis } from '../connection.ts'
import { Consumer } from '../consumer.ts'
import { deadLetterStream } from '../dead-letters.ts'
import { HighWater } from '../high-water.ts'
import { CursorConflictError, Producer } from '../producer.ts'
import { eventsFrom, peekTestKey, testCodec, type TestEvent } from './events.ts'

export const MODEL = { stream: 's', group: 'g', cursor: 's:cursor:upstream' }

const NAMES = ['one', 'two', 'three']
/** How often each action is in the deck; the seed shuffles the deck. */
const DECK = { append: 30, start: 14, crash: 8, stop: 4, cut: 4, flush: 2, killRedis: 1, wait: 12 } as const
type Deed = keyof typeof DECK

const LIMITS = {
  blockMs: 50,
  reclaimIdleMs: 120,
  retireIdleMs: 200,
  leaseMs: 200,
  lingerMs: 0,
  finishMs: 3_000,
  readEntries: 8,
}
const BACKOFF = { baseMs: 5, capMs: 40, healthyAfterMs: 1_000 }

interface Life {
  name: string
  stop: AbortController
  /** From now on this consumer says and does nothing. */
  dead: boolean
  clients: Redis[]
  ended: Promise<void>
}

export class DeliveryModel {
  readonly #server: Server
  readonly #random: Random
  readonly #redis: Redis
  readonly #producerRedis: Redis
  readonly #producer: Producer<TestEvent>
  readonly #lives = new Map<string, Life>()
  /** Events that were appended, as far as Redis ever confirmed. A flush takes them back. */
  readonly #stored = new Set<number>()
  readonly #processed = new Map<number, number>()
  #cursor: string | null = null
  #events = 0
  /** How often each of these things happened. */
  readonly fired = {
    crash: 0,
    crashInWork: 0,
    stop: 0,
    cut: 0,
    flush: 0,
    killRedis: 0,
    workFailed: 0,
    conflict: 0,
    reclaimed: 0,
    ownPending: 0,
    groupLost: 0,
    retired: 0,
  }
  /** Errors that ended a consumer and were not caused on purpose. */
  readonly unexpected: string[] = []

  private constructor(server: Server, seed: number, redis: Redis, producerRedis: Redis) {
    this.#server = server
    this.#random = new Random(seed)
    this.#redis = redis
    this.#producerRedis = producerRedis
    const highWater = new HighWater({ redis: producerRedis, stream: MODEL.stream, entriesMax: 1e9 })
    const common = { stream: MODEL.stream, codec: testCodec, highWater, backoff: BACKOFF }
    this.#producer = new Producer({ redis: producerRedis, ...common })
  }

  static async start(server: Server, seed: number): Promise<DeliveryModel> {
    const [redis, producerRedis] = await Promise.all([connect(server, 'driver'), connect(server, 'producer')])
    return new DeliveryModel(server, seed, redis, producerRedis)
  }

  /**
   * Plays the whole deck, and checks the record after each action.
   * @throws when something is lost
   */
  async play(): Promise<void> {
    const deck = Object.entries(DECK).flatMap(([deed, times]) => Array<Deed>(times).fill(deed as Deed))
    for (let i = deck.length - 1; i > 0; i--) {
      const j = this.#random.below(i + 1)
      ;[deck[i], deck[j]] = [deck[j]!, deck[i]!]
    }
    for (const deed of deck) {
      await this.#do(deed)
      await this.check()
    }
  }

  /** Ends every consumer, some of them by death, and lets one last consumer finish what they left. */
  async finish(isDone: () => Promise<boolean>): Promise<void> {
    for (const life of this.#lives.values()) {
      await (this.#random.chance(0.5) ? this.#crash(life) : this.#stop(life))
    }
    // Events that a flush has removed come again from upstream, even if nothing was appended since: the reader of the
    // upstream asks Redis for the cursor.
    this.#cursor = await this.#redis.get(MODEL.cursor)
    while (Number(this.#cursor) < this.#events) await this.#append()
    await this.#live('last')
    for (let waited = 0; !(await isDone()); waited++) {
      if (waited > 600) throw new Error('the last consumer does not come to an end')
      if (!this.#lives.has('last')) await this.#live('last')
      await delay(25)
    }
    await this.check()
    const last = this.#lives.get('last')
    if (last) await this.#stop(last)
  }

  /** @throws when an event whose append was confirmed is nowhere */
  async check(): Promise<void> {
    const [entries, letters] = await Promise.all([
      this.#redis.xRange(MODEL.stream, '-', '+'),
      this.#redis.xRange(deadLetterStream(MODEL.stream), '-', '+'),
    ])
    const kept = new Set((entries ?? []).map(({ message }) => testCodec.decode(message).n))
    for (const { message } of letters ?? []) {
      kept.add(testCodec.decode(JSON.parse(message.payload!) as Record<string, string>).n)
    }
    const lost = [...this.#stored].filter((n) => !kept.has(n) && !this.#processed.has(n))
    if (lost.length > 0) throw new Error(`acked and never processed: ${lost.join(', ')}`)
  }

  get processed(): number[] {
    return [...this.#processed.keys()]
  }

  /** How many events upstream has given so far. */
  get events(): number {
    return this.#events
  }

  get redis(): Redis {
    return this.#redis
  }

  async close(): Promise<void> {
    for (const life of this.#lives.values()) await this.#crash(life)
    this.#redis.destroy()
    this.#producerRedis.destroy()
  }

  async #do(deed: Deed): Promise<void> {
    const lives = [...this.#lives.values()]
    switch (deed) {
      case 'append':
        return this.#append()
      case 'start': {
        const free = NAMES.filter((name) => !this.#lives.has(name))
        return free.length > 0 ? this.#live(this.#random.pick(free)) : undefined
      }
      case 'crash':
        return lives.length > 0 ? this.#crash(this.#random.pick(lives)) : undefined
      case 'stop':
        return lives.length > 0 ? this.#stop(this.#random.pick(lives)) : undefined
      case 'cut':
        this.fired.cut += Number(await this.#redis.sendCommand(['CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes']))
        return
      case 'flush':
        return this.#flush()
      case 'killRedis':
        return this.#killRedis()
      case 'wait':
        return delay(this.#random.below(150))
    }
  }

  /** Flushes Redis while a consumer is reading, if there is one by then. */
  async #flush(): Promise<void> {
    if (this.#lives.size === 0) await this.#live(this.#random.pick(NAMES))
    for (let waits = 0; waits < 100 && !(await this.#isRead()); waits++) await delay(5)
    await this.#redis.flushDb()
    this.#stored.clear()
    this.fired.flush += 1
    await delay(this.#random.below(60))
  }

  /** Whether some consumer is blocked in a read. */
  async #isRead(): Promise<boolean> {
    return /^blocked_clients:[1-9]/m.test(await this.#redis.info('clients'))
  }

  /** The next events of upstream, or those that Redis has lost. */
  async #append(): Promise<void> {
    const first = Number(this.#cursor)
    const count = 1 + this.#random.below(25)
    const to = String(first + count)
    const events = eventsFrom(first, count)
    try {
      await this.#producer.append(events, never, { cursor: { key: MODEL.cursor, from: this.#cursor, to } })
    } catch (error) {
      if (!(error instanceof CursorConflictError)) throw error
      this.#cursor = error.found
      this.fired.conflict += 1
      return
    }
    for (const { n } of events) this.#stored.add(n)
    this.#cursor = to
    this.#events = Math.max(this.#events, first + count)
  }

  /** A process begins, with connections of its own, under a name that another process may have had. */
  async #live(name: string): Promise<void> {
    const clients = await Promise.all([connect(this.#server, name), connect(this.#server, `${name}-reader`)])
    const [redis, reader] = clients
    const stop = new AbortController()
    const life: Life = { name, stop, dead: false, clients, ended: Promise.resolve() }
    const consumer = new Consumer<TestEvent>({
      redis,
      reader,
      address: { ...MODEL, consumer: name },
      codec: testCodec,
      key: ({ key }) => key,
      peekKey: this.#random.below(2) === 0 ? peekTestKey : undefined,
      backoff: BACKOFF,
      limits: { ...LIMITS, batchEvents: 1 + this.#random.below(10) },
      observer: {
        redelivered: (entries, from) => void (this.fired[from === 'reclaimed' ? 'reclaimed' : 'ownPending'] += entries),
        groupLost: () => void this.fired.groupLost++,
        retired: (consumers) => void (this.fired.retired += consumers.length),
      },
    })
    const seed = this.#random.below(2 ** 31)
    life.ended = consumer.run(stop.signal, 1 + this.#random.below(3), this.#work(life, new Random(seed))).then(
      () => this.#end(life),
      (error: unknown) => {
        if (!life.dead && !(error instanceof PlannedError)) this.unexpected.push(`${name}: ${String(error)}`)
        this.#end(life)
      },
    )
    this.#lives.set(name, life)
  }

  #work(life: Life, random: Random): Parameters<Consumer<TestEvent>['run']>[2] {
    const failSometimes = (): void => {
      if (life.dead) throw new PlannedError('dead')
      if (life.name === 'last' || !random.chance(0.02)) return
      this.fired.workFailed += 1
      throw new PlannedError('no database')
    }
    return async (batches) => {
      for await (const batch of batches) {
        await delay(random.below(8))
        failSometimes()
        for (const { n } of batch.events) this.#processed.set(n, (this.#processed.get(n) ?? 0) + 1)
        failSometimes()
        await batch.ack()
      }
    }
  }

  #end(life: Life): void {
    for (const client of life.clients) client.destroy()
    if (this.#lives.get(life.name) === life) this.#lives.delete(life.name)
  }

  async #crash(life: Life): Promise<void> {
    const { pending } = await this.#redis.xPending(MODEL.stream, MODEL.group).catch(() => ({ pending: 0 }))
    life.dead = true
    for (const client of life.clients) client.destroy()
    life.stop.abort()
    this.#lives.delete(life.name)
    this.fired.crash += 1
    if (pending > 0) this.fired.crashInWork += 1
  }

  async #stop(life: Life): Promise<void> {
    life.stop.abort()
    await life.ended
    this.fired.stop += 1
  }

  async #killRedis(): Promise<void> {
    await this.#server.kill()
    await this.#server.start()
    while (!this.#redis.isReady) await delay(5)
    this.fired.killRedis += 1
    // The disk of Redis may have been behind: the cursor tells what Redis still knows.
    const cursor = Number(await this.#redis.get(MODEL.cursor))
    for (const n of this.#stored) if (n >= cursor) this.#stored.delete(n)
  }
}

class PlannedError extends TransientError {
  override name = 'PlannedError'
}

const never = new AbortController().signal

async function connect(server: Server, name: string): Promise<Redis> {
  return connectRedis({ url: server.url(), name: `model-${name}`, limits: { reconnectMaxMs: 50 } })
}
