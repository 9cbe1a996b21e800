/**
 * One run of a consumer, from taking its name to giving it back.
 *
 * Four parts run side by side: reading new entries, working on batches, reclaiming the entries of dead consumers, and
 * keeping (renewing the lease, and touching the entries that it holds). The first part that fails stops the others;
 * each worker finishes the batch it has.
 */
import { orAbort } from '@sluice/runtime/abort.ts'
import { sleep } from '@sluice/runtime/backoff.ts'
import { crashPoint } from '@sluice/runtime/crash-points.ts'
import { DefectError, FatalError, isAbort, TransientError } from '@sluice/runtime/errors.ts'
import type { YieldTurn, Batch, ConsumerLimits, ConsumerOptions, Refusal, Work } from './consumer.ts'
import { bury, DeadLettersFullError, type Burial } from './dead-letters.ts'
import { ack, type Delivered } from './entries.ts'
import { Intake } from './intake.ts'
import type { Held, Lanes } from './lanes.ts'
import { Lease } from './lease.ts'
import { LetterIncidents } from './letter-incidents.ts'
import { openEntries, type Opened } from './open-entries.ts'
import { Patience } from './patience.ts'
import { PhantomIncidents } from './phantom-incidents.ts'
import { Suspects } from './suspects.ts'
import { YieldableTurn, Turns, type TurnKind } from './turns.ts'

export class ConsumerRun<E extends object> {
  readonly #options: ConsumerOptions<E>
  readonly #limits: ConsumerLimits
  readonly #lanes: Lanes<E>
  readonly #patience: Patience
  readonly #suspects: Suspects
  readonly #turns: Turns
  readonly #letters: LetterIncidents
  readonly #phantoms: PhantomIncidents
  readonly #fail = new AbortController()
  /** Aborts when the caller stops the run, or when a part has failed. */
  readonly #stopped: AbortSignal
  /** Aborts when there is no more time to finish anything. */
  readonly #end = new AbortController()
  #failure: { error: unknown } | undefined

  constructor(options: ConsumerOptions<E>, limits: ConsumerLimits, lanes: Lanes<E>, signal: AbortSignal) {
    const { redis, address, observer = {}, backoff, processTurns = new Turns() } = options
    this.#options = options
    this.#limits = limits
    this.#lanes = lanes
    this.#patience = new Patience({ redis, address, observer, backoff, end: this.#end.signal })
    this.#suspects = new Suspects(redis, address)
    this.#turns = processTurns
    this.#letters = new LetterIncidents({
      stream: address.stream,
      allowed: limits.deadLetters,
      report: (incident) => this.#patience.report(incident),
    })
    this.#phantoms = new PhantomIncidents({ address, report: (incident) => this.#patience.report(incident) })
    this.#stopped = AbortSignal.any([signal, this.#fail.signal])
  }

  /** @throws the first failure; an AbortError when the run was stopped before it began */
  async toEnd(lanes: number, work: Work<E>): Promise<void> {
    const { redis, address } = this.#options
    const stopped = this.#stopped
    const lease = new Lease({ redis, ...address, ttlMs: this.#limits.leaseMs, signal: stopped })
    await this.#patience.until(stopped, () => lease.take())
    using _deadline = this.#finishInTime()
    const intake = this.#intake()
    const done = new AbortController()
    const keeping = this.#orStop(this.#keep(lease, intake, done.signal))
    const workers = Array.from({ length: lanes }, (_, lane) => this.#work(work, lane))
    await Promise.all([intake.read(stopped), intake.reclaim(stopped), ...workers].map((part) => this.#orStop(part)))
    done.abort()
    await keeping
    await this.#takeLeave(lease)
    if (this.#failure) throw this.#failure.error
  }

  /**
   * After the stop no more batches are handed out, and the batches in work have `finishMs` to finish. Disposing of the
   * result ends this deadline.
   */
  #finishInTime(): Disposable {
    let deadline: NodeJS.Timeout | undefined
    const onStop = () => {
      this.#lanes.close()
      deadline = setTimeout(() => this.#end.abort(), this.#limits.finishMs)
    }
    if (this.#stopped.aborted) onStop()
    else this.#stopped.addEventListener('abort', onStop, { once: true })
    return { [Symbol.dispose]: () => clearTimeout(deadline) }
  }

  /** Stores the incidents that are not stored yet and gives the name back, as far as there is time. */
  async #takeLeave(lease: Lease): Promise<void> {
    this.#letters.tellNow()
    this.#phantoms.tellNow()
    await orAbort(this.#end.signal, this.#patience.storeReported()).catch(() => {})
    await orAbort(this.#end.signal, lease.release()).catch(() => {})
  }

  /** Settles when the part does. A failure of the part becomes the failure of the run, and stops the other parts. */
  async #orStop(part: Promise<void>): Promise<void> {
    try {
      await part
    } catch (error) {
      if (this.#stopped.aborted && isAbort(error)) return
      this.#failure ??= { error }
      this.#fail.abort()
    }
  }

  async #work(work: Work<E>, lane: number): Promise<void> {
    try {
      await work(this.#batches(lane))
    } catch (error) {
      if (isInnocent(error)) await this.#suspects.clear()
      throw error
    }
    if (!this.#stopped.aborted)
      throw new FatalError(`a worker of ${this.#options.address.stream} ended before its lane`)
  }

  async *#batches(lane: number): AsyncGenerator<Batch<E>> {
    for await (const entries of this.#lanes.batches(lane)) {
      const first = entries[0]!
      using turn = await this.#takeTurn(lane, first.isolated ? 'exclusive' : 'shared')
      const yieldTurn: YieldTurn = async (wait) => {
        // While this batch waits, other batches run beside it, and another suspect may be tried. So it is no longer
        // alone, and a death would prove nothing.
        if (first.isolated) await this.#suspects.clear()
        return await this.#lanes.yieldTurn(lane, async () => turn.yieldTurn(wait))
      }
      if (this.#stopped.aborted) return
      if (first.isolated && !(await this.#mayTry(first, yieldTurn))) continue
      const opened = await openEntries(entries, this.#options, (held, refusal) =>
        this.#giveUp(held, refusal, yieldTurn),
      )
      if (opened.length > 0) yield this.#batch(opened, yieldTurn)
      if (first.isolated) await this.#suspects.clear()
    }
  }

  /** Takes a turn of the process for a batch that already has the turn of its lane. */
  async #takeTurn(lane: number, kind: TurnKind): Promise<YieldableTurn> {
    const enter = async () => YieldableTurn.begin(async () => this.#turns.enter(kind))
    // Danger of a deadlock: the batch that has the process turn may itself be waiting for this lane. If we held the
    // lane while we wait for the process turn, each would wait for the other. So the lane is yielded meanwhile.
    return await (this.#turns.wouldWait(kind) ? this.#lanes.yieldTurn(lane, enter) : enter())
  }

  /** Returns false when the entry was found guilty and became a dead letter. */
  async #mayTry(suspect: Held<E>, yieldTurn: YieldTurn): Promise<boolean> {
    if (await this.#patience.until(this.#end.signal, () => this.#suspects.mayTry(suspect))) return true
    const message = `the process died each time it worked on this entry alone (${suspect.deliveries} deliveries)`
    await this.#giveUp(suspect, { reason: 'crash-loop', message }, yieldTurn)
    await this.#suspects.forget(suspect)
    return false
  }

  #batch(opened: Opened<E>[], yieldTurn: YieldTurn): Batch<E> {
    const open = new Set(opened.map(({ held }) => held))
    const first = opened[0]!.held
    return {
      events: opened.map(({ event }) => event),
      id: first.id,
      deliveries: first.deliveries,
      ack: async () => {
        crashPoint('commit.after')
        await this.#ack([...open])
        crashPoint('ack.after')
        open.clear()
      },
      refuse: async (event, refusal) => {
        const held = opened.find((entry) => entry.event === event)?.held
        if (!held) throw new FatalError(`refused an event that is not in the batch: ${refusal.reason}`)
        if (!open.has(held)) return
        const key = this.#options.oneLetterPerKey ? this.#options.key(event) : undefined
        await this.#giveUp(held, refusal, yieldTurn, key)
        open.delete(held)
      },
      yieldTurn,
    }
  }

  async #ack(entries: Held<E>[]): Promise<void> {
    const { redis, address, observer } = this.#options
    const ids = entries.map(({ id }) => id)
    await this.#patience.until(this.#end.signal, () => ack(redis, address, ids))
    this.#lanes.release(entries)
    observer?.acked?.(entries.length)
  }

  /**
   * Makes a dead letter of an entry in a batch that is in work. When the dead letters are full, this waits for an
   * operator; the turn goes to other batches meanwhile.
   */
  async #giveUp(held: Held<E>, refusal: Refusal, yieldTurn: YieldTurn, key?: string): Promise<void> {
    await yieldTurn(async () => this.#bury(held, refusal, key))
  }

  async #bury({ id, fields, deliveries }: Delivered, refusal: Refusal, key?: string): Promise<void> {
    const { stream, group } = this.#options.address
    const { reason, code, message, attempts = deliveries } = refusal
    const burial = { stream, group, entryId: id, fields, reason, code, message, attempts, key }
    const total = await this.#patience.until(this.#end.signal, async () => this.#tryToBury(burial))
    this.#lanes.release([{ id }])
    this.#letters.added(total)
    this.#options.observer?.buried?.(reason, { entryId: id, fields, message })
  }

  async #tryToBury(burial: Burial): Promise<number> {
    try {
      return await bury(this.#options.redis, burial, this.#limits.deadLetters)
    } catch (error) {
      if (error instanceof DeadLettersFullError) this.#letters.full()
      throw error
    }
  }

  #intake(): Intake<E> {
    const { observer = {}, isolate = true } = this.#options
    return new Intake({
      ...this.#options,
      observer,
      isolate,
      limits: this.#limits,
      lanes: this.#lanes,
      patience: this.#patience,
      bury: (entry, refusal) => this.#bury(entry, refusal),
      onPhantoms: (ids) => this.#phantoms.found(ids),
    })
  }

  /**
   * Renews the lease and touches the entries that we hold, until `done`. It runs beside everything else, because a slow
   * batch must not look like the death of this consumer.
   */
  async #keep(lease: Lease, intake: Intake<E>, done: AbortSignal): Promise<void> {
    const touchMs = this.#limits.reclaimIdleMs / 4
    const tickMs = Math.min(lease.renewMs, touchMs)
    let touchAtMs = 0
    while (!done.aborted) {
      await sleep(tickMs, done)
      await this.#patience.until(done, () => lease.renew())
      this.#letters.tell()
      this.#phantoms.tell()
      await this.#patience.until(done, () => this.#patience.storeReported())
      if (performance.now() < touchAtMs) continue
      touchAtMs = performance.now() + touchMs
      await this.#patience.until(done, () => intake.touch(Math.round(touchMs)))
    }
  }
}

/**
 * Whether an error clears the entry that was worked on alone. It does when the environment is at fault, or our setup
 * (such as a revoked privilege). In such a case a supervisor starts the daemon again and again until an operator mends
 * the cause, and these restarts must not count against the entry.
 */
function isInnocent(error: unknown): boolean {
  if (error instanceof DefectError) return false
  return error instanceof TransientError || error instanceof FatalError || isAbort(error)
}
