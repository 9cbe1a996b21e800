/**
 * Appends events to one stream, together with everything that must move in the same step (a cursor, per-DID state,
 * resync requests).
 *
 * `append` resolves when everything is in Redis, and not before. It waits at the high-water mark and through outages.
 * Either all steps of a call happen or none does. When an answer gets lost, the call is tried again. If a cursor moves
 * with it, Redis recognises an append that was applied already and does not repeat it. Without a cursor entries may be
 * appended twice, which the indexer absorbs.
 *
 * Made for batches of up to some thousand events: one call is one script, and Redis does nothing else while it runs (3
 * µs an entry).
 */
import { ErrorReply } from 'redis'
import type { EntryEncoder } from '@sluice/events/codec.ts'
import { retry, type BackoffPolicy, type Retry } from '@sluice/runtime/backoff.ts'
import { crashPoint } from '@sluice/runtime/crash-points.ts'
import { FatalError } from '@sluice/runtime/errors.ts'
import { classifyRedisError, REDIS_BACKOFF, type Redis } from './connection.ts'
import type { HighWater } from './high-water.ts'
import { runScript, scripts } from './scripts.ts'

export interface ProducerOptions<E> {
  redis: Redis
  stream: string
  codec: EntryEncoder<E>
  highWater: HighWater
  backoff?: BackoffPolicy
  /** Called before each wait for a Redis that fails. */
  onRetry?: (retry: Retry) => void
  /** Called when an append that had to wait was stored, or was answered in another way. Others may still wait. */
  onRecovered?: () => void
}

/** A cursor that moves with the entries. Before the move it must hold `from`, or be absent if `from` is null. */
export interface CursorMove {
  key: string
  from: string | null
  to: string
}

/** Another change that happens in the same step. */
export type Step =
  | { step: 'set'; key: string; value: string }
  /** Appends entries with a single field to another stream. */
  | { step: 'add'; stream: string; field: string; values: readonly string[] }
  /** Adds to a number in a hash. */
  | { step: 'count'; key: string; field: string; by: number }
  /** Sets a hash field, whatever it holds. */
  | { step: 'put'; key: string; field: Buffer; value: Buffer }
  /**
   * Sets a hash field (`to` undefined: removes it). The field must hold `from` (undefined: be absent); otherwise the
   * whole append fails with a StateConflictError.
   */
  | { step: 'swap'; key: string; field: Buffer; from: Buffer | undefined; to: Buffer | undefined }
  /** Changes a chain record; see chain-state.ts. */
  | { step: 'mark'; key: string; field: Buffer; flags: number }
  | { step: 'complete'; key: string; field: Buffer; value: Buffer }

export interface AppendOptions {
  /** Cursors that move (`from` differs from `to`), each of a different upstream. */
  cursor?: CursorMove | readonly CursorMove[]
  also?: readonly Step[]
}

export interface Appended {
  /** How many exports were too old to end the resync of their repository (`completeExport`). */
  stale: number
}

/** Another process moved the cursor: two processes produce from the same upstream. */
export class CursorConflictError extends FatalError {
  override name = 'CursorConflictError'
  readonly key: string
  /** The value that the cursor has. If it is absent or lower than expected, Redis itself went back in time. */
  readonly found: string | null
  constructor(message: string, { key, found }: { key: string; found: string | null }) {
    super(message)
    this.key = key
    this.found = found
  }
}

/** Another process changed what a `swap` was to replace. Nothing was stored: read the value again and decide again. */
export class StateConflictError extends Error {
  override name = 'StateConflictError'
  /** The swaps that failed, as positions among the swaps of the call. */
  readonly swaps: readonly number[]
  constructor(swaps: readonly number[]) {
    super(`${swaps.length} records were changed by another process`)
    this.swaps = swaps
  }
}

export class Producer<E> {
  readonly #options: ProducerOptions<E>

  constructor(options: ProducerOptions<E>) {
    this.#options = options
  }

  get stream(): string {
    return this.#options.stream
  }

  /**
   * Stores `events` in order.
   * @throws CursorConflictError when the cursor is not at `from` (nothing was stored); StateConflictError (likewise);
   * FatalError when Redis refuses us for good; AbortError on the signal (then nothing or everything was stored)
   */
  async append(
    events: readonly E[],
    signal: AbortSignal,
    { cursor, also = [] }: AppendOptions = {},
  ): Promise<Appended> {
    const cursors = cursor === undefined ? [] : 'key' in cursor ? [cursor] : cursor
    const call = encodeCall(this.#options.stream, this.#options.codec, events, cursors, also)
    const { backoff = REDIS_BACKOFF, highWater, onRetry, onRecovered } = this.#options
    let unanswered = false
    const attempt = async (): Promise<Appended> => {
      if (events.length > 0) await highWater.room(signal)
      crashPoint('append.before')
      const reply = (await this.#run(call, () => (unanswered = true))) as Reply
      crashPoint('append.after')
      if (reply[0] === 2) throw new StateConflictError(reply.slice(1).map((n) => n - 1))
      if (reply[0] === 0) {
        const moved = cursors.find(({ key }) => key === call.keys[reply[1] - 1])!
        // An earlier try was applied, and only its answer got lost.
        if (unanswered && reply[2] === moved.to) return { stale: 0 }
        throw conflict(moved, reply[2])
      }
      const [, entries, stale] = reply
      highWater.observe({ entries, bytes: call.bytes })
      return { stale }
    }
    let hasWaited = false
    try {
      return await retry(signal, backoff, attempt, (wait) => {
        hasWaited = true
        onRetry?.(wait)
      })
    } finally {
      if (hasWaited && !signal.aborted) onRecovered?.()
    }
  }

  async #run(call: { keys: string[]; args: (string | Buffer)[] }, onUnanswered: () => void): Promise<unknown> {
    try {
      return await runScript(this.#options.redis, scripts.append, call.keys, call.args)
    } catch (error) {
      // A server that answered with an error has not executed the script. A server that did not answer may have.
      if (!(error instanceof ErrorReply)) onUnanswered()
      throw classifyRedisError(error)
    }
  }
}

type Reply = [1, entries: number, stale: number] | [0, key: number, found: string] | [2, ...number[]]

function conflict({ key, from }: CursorMove, found: string): CursorConflictError {
  return new CursorConflictError(
    `cursor ${key} is at ${found || 'nothing'}, not at ${from ?? 'nothing'}: either another ingester reads the same host (stop one of them), or Redis came back older than it was (go on from what it holds)`,
    { key, found: found === '' ? null : found },
  )
}

function encodeCall<E>(
  stream: string,
  codec: EntryEncoder<E>,
  events: readonly E[],
  cursors: readonly CursorMove[],
  also: readonly Step[],
) {
  const keys: string[] = []
  const args: (string | Buffer)[] = []
  const numbers = new Map<string, string>()
  const key = (name: string): string => {
    let number = numbers.get(name)
    if (number === undefined) numbers.set(name, (number = String(keys.push(name))))
    return number
  }
  key(stream)
  for (const cursor of cursors) args.push('expect', key(cursor.key), cursor.from ?? '')
  for (const [field, values] of byField(codec, events)) args.push('add', '1', field, String(values.length), ...values)
  for (const step of also) {
    switch (step.step) {
      case 'set':
        args.push('set', key(step.key), step.value)
        break
      case 'add':
        args.push('add', key(step.stream), step.field, String(step.values.length), ...step.values)
        break
      case 'count':
        args.push('count', key(step.key), step.field, String(step.by))
        break
      case 'put':
        args.push('put', key(step.key), step.field, step.value)
        break
      case 'swap':
        args.push('swap', key(step.key), step.field, step.from ?? '', step.to ?? '')
        break
      case 'mark':
        args.push('mark', key(step.key), step.field, String(step.flags))
        break
      case 'complete':
        args.push('complete', key(step.key), step.field, step.value)
        break
    }
  }
  for (const cursor of cursors) args.push('set', key(cursor.key), cursor.to)
  return { keys, args, bytes: args.reduce((sum, arg) => sum + arg.length, 0) }
}

/**
 * Groups the values by field (an entry has one field). Only neighbours are grouped, so the order of the events stays.
 */
function byField<E>(codec: EntryEncoder<E>, events: readonly E[]): [field: string, values: string[]][] {
  const runs: [string, string[]][] = []
  for (const event of events) {
    for (const [field, value] of Object.entries(codec.encode(event))) {
      const last = runs.at(-1)
      if (last?.[0] === field) last[1].push(value)
      else runs.push([field, [value]])
    }
  }
  return runs
}
