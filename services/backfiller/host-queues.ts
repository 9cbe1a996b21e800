/**
 * Decides which work begins next. Work waits in a queue for each host, and begins when its host and the whole process
 * have room for it.
 *
 * - One slow or busy host never delays the work of another. A host that may not be asked now is skipped. One host may
 *   take a sixteenth of the free places, or one: the scarcer the free places, the fewer. So slow hosts cannot take all
 *   places. The last sixteenth of the places is for hosts whose last work was quick, since every host may hold one
 *   place, and there are thousands of hosts.
 * - Hosts take turns. Within a host urgent work goes first, then first come, first served.
 * - The room for waiting work is shared in the same way (`mayWait`). The last sixteenth part of it is for hosts that
 *   may be asked now. Work that finds no room is put elsewhere by the caller.
 * - Work has a place before the host's limits are asked. Until the limits allow the work, the place is held for only
 *   one round trip to Redis.
 */
import type { Asked, HostWait, PdsLimits, Permit } from './pds-limits.ts'

export interface HostQueuesOptions<T, R extends Disposable> {
  /** `ask` must not reject. */
  limits: Pick<PdsLimits, 'ask' | 'limitsOf'>
  /** The places: the most work under way, over all hosts. */
  concurrency: number
  /** The room: the most work under way or waiting, over all hosts. `mayWait` tells how it is shared. */
  heldMax: number
  /**
   * Reserves what a piece of work needs to begin; undefined when that is not free now. `wake` is to be called when this
   * may have changed.
   */
  reserve: () => R | undefined
  /** Must not reject. */
  work: (item: T, permit: Permit, reserved: R) => Promise<void>
  onWait?: (host: string, why: HostWait, waitMs: number) => void
}

interface Host<T> {
  readonly name: string
  readonly urgent: T[]
  readonly waiting: T[]
  /** Work that is under way, or for which the host's limits are being asked. */
  running: number
  /**
   * The host is not asked before this timer fires, which is at `openAtMs` of the monotonic clock. Undefined: the host
   * may be asked.
   */
  timer: NodeJS.Timeout | undefined
  openAtMs: number
}

/**
 * One host may hold a sixteenth of the free places (or one place), and a sixteenth of the free room for waiting work.
 * The last sixteenth of all places is kept for quick hosts.
 */
const PART_OF_FREE = 16
/** A host is quick when its last work took less than this, whatever the result. */
const QUICK_MS = 10_000
const QUICK_HOSTS_MAX = 10_000

export class HostQueues<T, R extends Disposable> {
  readonly #options: HostQueuesOptions<T, R>
  readonly #hosts = new Map<string, Host<T>>()
  /** Hosts that have waiting work and may be asked. The next one comes first. */
  readonly #ready = new Set<Host<T>>()
  /** The names of quick hosts, the latest at the end. Hosts without work are remembered as well. */
  readonly #quick = new Set<string>()
  #running = 0
  #waiting = 0
  #closed = false
  readonly #onIdle: (() => void)[] = []

  constructor(options: HostQueuesOptions<T, R>) {
    this.#options = options
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return this.#waiting
  }

  /** Hosts with work waiting or under way. */
  get hosts(): number {
    return [...this.#hosts.values()].filter((host) => !isIdle(host)).length
  }

  /** For how many ms from now the host is not asked, by the answer of its limits; 0 when it may be asked. */
  closedMs(name: string): number {
    const host = this.#hosts.get(name)
    return host?.timer === undefined ? 0 : Math.max(0, host.openAtMs - performance.now())
  }

  /**
   * So little room is left that it is only for hosts that may be asked now. Work that waits for another host should
   * wait elsewhere.
   */
  get isCrowded(): boolean {
    return this.#room < PART_OF_FREE
  }

  get #room(): number {
    return this.#options.heldMax - this.#waiting - this.#running
  }

  /**
   * Whether one more piece of work may wait for a host. The less room is left, the less work of one host may wait:
   * otherwise work of a few slow hosts would take all the room. At least one piece may wait, but not for a host that
   * may not be asked now: there may be many such hosts, and they would take all the room too. Urgent work has a share
   * of its own.
   */
  mayWait(name: string, { urgent }: { urgent: boolean }): boolean {
    const host = this.#hosts.get(name)
    if (host === undefined) return true
    const waiting = host.urgent.length + (urgent ? 0 : host.waiting.length)
    const share = this.#room / PART_OF_FREE
    return host.timer === undefined ? waiting < Math.max(1, share) : waiting + 1 <= share
  }

  add(name: string, item: T, { urgent, front = false }: { urgent: boolean; front?: boolean }): void {
    const host = this.#hosts.get(name) ?? newHost<T>(name)
    this.#hosts.set(name, host)
    const list = urgent ? host.urgent : host.waiting
    if (front) list.unshift(item)
    else list.push(item)
    this.#waiting++
    if (host.timer === undefined) this.#ready.add(host)
    this.wake()
  }

  /** Takes out all work that waits for a host, in order. The host is still not asked before its time. */
  drain(name: string): T[] {
    const host = this.#hosts.get(name)
    if (host === undefined) return []
    const items = [...host.urgent.splice(0), ...host.waiting.splice(0)]
    this.#waiting -= items.length
    this.#forgetIfIdle(host)
    return items
  }

  /** Begins what can begin. To be called when something that work needs may have become free. */
  wake(): void {
    if (this.#closed) return
    for (const host of this.#ready) {
      if (this.#running >= this.#options.concurrency) return
      if (!this.#mayHoldMore(host)) continue
      const reserved = this.#options.reserve()
      if (reserved === undefined) return
      this.#ready.delete(host)
      void this.#start(host, reserved)
    }
  }

  /** Begins nothing more. Resolves when all work under way has ended. */
  async close(): Promise<void> {
    this.#closed = true
    this.#ready.clear()
    for (const { timer } of this.#hosts.values()) clearTimeout(timer)
    if (this.#running > 0) await new Promise<void>((resolve) => this.#onIdle.push(resolve))
  }

  #mayHoldMore(host: Host<T>): boolean {
    const { concurrency, limits } = this.#options
    const free = concurrency - this.#running
    if (free <= Math.floor(concurrency / PART_OF_FREE) && !this.#quick.has(host.name)) return false
    return host.running < Math.min(limits.limitsOf(host.name).concurrency, Math.max(1, free / PART_OF_FREE))
  }

  async #start(host: Host<T>, reserved: R): Promise<void> {
    this.#running++
    host.running++
    const asked = await this.#options.limits.ask(host.name)
    const item = asked.permit && !this.#closed ? (host.urgent.shift() ?? host.waiting.shift()) : undefined
    if (item === undefined) {
      reserved[Symbol.dispose]()
      this.#passOver(host, asked)
    } else {
      this.#waiting--
      this.#readyAgain(host)
      this.wake()
      const began = performance.now()
      await this.#options.work(item, asked.permit!, reserved)
      this.#note(host, performance.now() - began)
    }
    this.#running--
    host.running--
    this.#readyAgain(host)
    this.#forgetIfIdle(host)
    if (this.#running === 0) for (const resolve of this.#onIdle.splice(0)) resolve()
    this.wake()
  }

  #note({ name }: Host<T>, tookMs: number): void {
    this.#quick.delete(name)
    if (tookMs < QUICK_MS) this.#quick.add(name)
    if (this.#quick.size > QUICK_HOSTS_MAX) this.#quick.delete(this.#quick.values().next().value!)
  }

  #passOver(host: Host<T>, asked: Asked): void {
    if (asked.permit) {
      void asked.permit.release({ verdict: 'nothing' })
      return
    }
    const { why, waitMs } = asked
    clearTimeout(host.timer)
    this.#ready.delete(host)
    host.openAtMs = performance.now() + waitMs
    host.timer = setTimeout(
      () => {
        host.timer = undefined
        this.#readyAgain(host)
        this.#forgetIfIdle(host)
        this.wake()
      },
      Math.min(waitMs, 2 ** 31 - 1),
    )
    if (this.#closed) clearTimeout(host.timer)
    this.#options.onWait?.(host.name, why, waitMs)
  }

  #readyAgain(host: Host<T>): void {
    const hasWork = host.urgent.length + host.waiting.length > 0
    if (hasWork && host.timer === undefined && !this.#closed) this.#ready.add(host)
  }

  /**
   * Forgets a host without work. Not before the host may be asked: otherwise work that is added until then would make
   * us ask it too early.
   */
  #forgetIfIdle(host: Host<T>): void {
    if (!isIdle(host) || host.timer !== undefined) return
    this.#ready.delete(host)
    this.#hosts.delete(host.name)
  }
}

function newHost<T>(name: string): Host<T> {
  return { name, urgent: [], waiting: [], running: 0, timer: undefined, openAtMs: 0 }
}

function isIdle({ running, urgent, waiting }: Host<unknown>): boolean {
  return running + urgent.length + waiting.length === 0
}
