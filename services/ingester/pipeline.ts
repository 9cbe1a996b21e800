/**
 * From a decoded frame to its finding: identity, verification, journal. Frames of one account are processed in order,
 * those of different accounts concurrently. An account whose identity cannot be resolved at present holds up its own
 * frames and the cursor, and nobody else.
 *
 * The memory is bounded in bytes, from the moment a frame is taken until its outcome is durable. When there is no room,
 * the upstream waits and does not read its socket. The events of a frame may be larger than the frame: they have a
 * budget of their own of the same size, from which room is taken before the frame is verified.
 */
import type { AccountFrame, CommitFrame, IdentityFrame, RepoFrame, SyncFrame } from '@sluice/atproto/frame.ts'
import { isDid } from '@sluice/atproto/syntax.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { Budget } from '@sluice/runtime/budget.ts'
import { isAbort } from '@sluice/runtime/errors.ts'
import { KeyedQueue } from '@sluice/runtime/keyed-queue.ts'
import type { RefusedFrame } from '@sluice/streams/refused-frames.ts'
import { AccountBacklogs } from './account-backlogs.ts'
import type { Chains } from './chains.ts'
import type { Finding } from './decide.ts'
import { roomFor } from './event-room.ts'
import { eventTime } from './event-time.ts'
import { textBytes, type Journal, type QueuedFinding } from './journal.ts'
import type { Verification, TrueCommit } from './verifier.ts'
import { refused, type Outcome, type Refusal } from './outcome.ts'
import type { Slot } from './progress.ts'
import { IdentityUnavailableError, type SigningKeys } from './signing-keys.ts'
import type { Source } from './source.ts'

/** A frame on its way. */
export interface Taken {
  source: Source
  slot: Slot
  frame: RepoFrame
  /** The whole frame. */
  bytes: Buffer
}

type TakenToVerify = Taken & { frame: CommitFrame | SyncFrame }

/** Verifies frames, here or on other threads. */
export interface Verifying {
  verify(frame: CommitFrame | SyncFrame, bytes: Buffer, key: string | undefined): Verification | Promise<Verification>
}

export interface PipelineOptions {
  journal: Journal
  chains: Chains
  keys: SigningKeys
  verifying: Verifying
  /** Whether signatures are checked. */
  needsKeys: boolean
  memoryBytes: number
  /** When it aborts, frames that wait for an identity or for room are left: they are read again after the restart. */
  signal: AbortSignal
  /**
   * Called when something of ours is broken. `push` and `drained` throw the error from now on, but perhaps nobody calls
   * them.
   */
  onFailed: () => void
  /** Called with each frame that is refused. */
  onRefused: (frame: RefusedFrame) => void
  /** Called with each commit of which ops are left out, once for each reason. */
  onOpsRefused: (frame: RefusedFrame) => void
}

/** The memory that a frame takes beside its bytes. */
const FRAME_OVERHEAD_BYTES = 1_024
/**
 * The share of the memory up to which frames stay as they came. Such a frame is a view of everything that came from the
 * socket at once, and keeps these 64 KiB alive: at worst 50 times what it counts for. Beyond this share a frame is
 * copied into memory of its own. That takes 3 µs, which would be wasted while no frame waits.
 */
const VIEWS_SHARE = 1 / 64

export class Pipeline {
  readonly #options: PipelineOptions
  readonly #memory: Budget
  /**
   * For the events, from before a frame is verified until they are durable. Whoever holds a part of it waits only for
   * threads and Redis, so it is always given back.
   */
  readonly #texts: Budget
  readonly #backlogs: AccountBacklogs
  readonly #queue: KeyedQueue
  /** How many frames are being worked on and do not wait for an identity. */
  #busy = 0

  constructor(options: PipelineOptions) {
    this.#options = options
    this.#memory = new Budget(options.memoryBytes)
    this.#texts = new Budget(options.memoryBytes)
    this.#backlogs = new AccountBacklogs(options.memoryBytes)
    const frames = Math.ceil(options.memoryBytes / FRAME_OVERHEAD_BYTES)
    this.#queue = new KeyedQueue({ concurrency: frames, capacity: frames })
  }

  get isQuiet(): boolean {
    return this.#busy === 0
  }

  /** The bytes of the frames under way. */
  get usedBytes(): number {
    return this.#memory.used
  }

  /**
   * Takes a frame as soon as there is room for it.
   * @throws AbortError on the signal
   */
  async push(taken: Taken): Promise<void> {
    const { signal } = this.#options
    const amount = costOf(taken.bytes)
    if (!this.#memory.tryAcquire(amount)) await this.#memory.acquire(amount, signal)
    this.#backlogs.enter(taken.frame.did, amount)
    this.#busy++
    const own = this.#memory.used > this.#memory.limit * VIEWS_SHARE ? apart(taken) : taken
    await this.#queue.push(own.frame.did, () => this.#work(own), signal)
  }

  /**
   * Takes a frame whose outcome is already known.
   * @throws AbortError on the signal
   */
  async end(source: Source, slot: Slot, outcome: Outcome): Promise<void> {
    const { signal, journal } = this.#options
    if (!this.#memory.tryAcquire(FRAME_OVERHEAD_BYTES)) await this.#memory.acquire(FRAME_OVERHEAD_BYTES, signal)
    const finding: Finding = { host: source.host, did: '', what: { kind: 'ended', outcome } }
    journal.add({ finding, source, slot, held: { frame: FRAME_OVERHEAD_BYTES, text: 0 } })
    if (this.isQuiet) journal.quiet()
  }

  /** Gives back the room of frames that are durable. */
  release(findings: readonly QueuedFinding[]): void {
    this.#memory.release(findings.reduce((sum, { held }) => sum + held.frame, 0))
    this.#texts.release(findings.reduce((sum, { held }) => sum + held.text, 0))
  }

  /** Resolves when each frame that was pushed has a finding, or was left because of the signal. */
  async drained(): Promise<void> {
    await this.#queue.drained()
  }

  async #work(taken: Taken): Promise<void> {
    const { journal, onFailed } = this.#options
    const { source, slot, frame, bytes } = taken
    const { did } = frame
    // A frame that was left stays open: the cursor does not pass it. So the account's later frames must be left too.
    let isLeft = this.#backlogs.isLeft(did)
    try {
      if (isLeft) return
      const what = await this.#look(taken)
      const text = what.kind === 'commit' && frame.type === 'commit' ? keptOf(what, frame) : 0
      const held = { frame: costOf(bytes), text }
      journal.add({ finding: { host: source.host, did, what }, source, slot, held })
    } catch (error) {
      isLeft = isAbort(error)
      if (isLeft) return
      onFailed()
      throw error
    } finally {
      this.#backlogs.leave(did, costOf(bytes), { isLeft })
      this.#busy--
      if (this.#busy === 0) journal.quiet()
    }
  }

  async #look(taken: Taken): Promise<Finding['what']> {
    const { source, frame } = taken
    // Checked before anything is looked up or remembered by this text, which may have megabytes.
    if (!isDid(frame.did)) return this.#refuse(taken, 'bad-did', frame.type)
    switch (frame.type) {
      case 'identity':
      case 'account':
        return this.#event(source, frame)
      case 'commit':
      case 'sync':
        return this.#verify({ ...taken, frame })
    }
  }

  /** What is cached of the account may be wrong now: it is forgotten before the account's next commit is looked at. */
  async #event({ host }: Source, frame: IdentityFrame | AccountFrame): Promise<Finding['what']> {
    const { keys, signal } = this.#options
    await this.#waiting(keys.purge(frame.did, signal))
    const entry = streamEventCodec.encode(eventOf(frame, host)).event!
    return frame.type === 'account' ? { kind: 'account', entry, active: frame.active } : { kind: 'event', entry }
  }

  async #verify(taken: TakenToVerify): Promise<Finding['what']> {
    const { chains, keys, needsKeys, signal } = this.#options
    const { frame, bytes } = taken
    const { did } = frame
    // A replay ends here, before the expensive part: the durable rev only grows.
    if (frame.type === 'commit' && frame.rev <= (chains.durableRev(frame.did) ?? '')) {
      return { kind: 'ended', outcome: 'duplicate' }
    }
    try {
      if (!needsKeys) return this.#findingOf(taken, await this.#verifyOnce(frame, bytes, undefined))
      const { key } = keys.peek(did) ?? (await this.#waiting(this.#backlogs.wait(did, () => keys.resolve(did, signal))))
      const verification = await this.#verifyOnce(frame, bytes, key)
      if (!isKeyProblem(verification)) return this.#findingOf(taken, verification)
      // The key may have changed, and the event that tells of this may be late or lost.
      const fresh = await this.#waiting(this.#backlogs.wait(did, () => keys.refresh(did, signal)))
      if (fresh.key === key) return this.#findingOf(taken, verification)
      return this.#findingOf(taken, await this.#verifyOnce(frame, bytes, fresh.key))
    } catch (error) {
      if (!(error instanceof IdentityUnavailableError)) throw error
      this.#options.onRefused(refusedFrame(taken, 'identity-unavailable', error.message))
      return { kind: 'unresolved' }
    }
  }

  /** Verifies a frame. Room for its events is taken before, and what they do not need is given back after. */
  async #verifyOnce(frame: CommitFrame | SyncFrame, bytes: Buffer, key: string | undefined): Promise<Verification> {
    const room = roomFor(frame)
    if (!this.#texts.tryAcquire(room)) await this.#texts.acquire(room, this.#options.signal)
    let kept = 0
    try {
      const verification = await this.#options.verifying.verify(frame, bytes, key)
      if (verification.kind === 'commit') kept = keptOf(verification, frame)
      return verification
    } finally {
      this.#texts.release(room - kept)
    }
  }

  #findingOf(taken: TakenToVerify, verification: Verification): Finding['what'] {
    if (verification.kind === 'refused') return this.#refuse(taken, verification.reason, verification.detail)
    if (verification.kind !== 'commit' || verification.refusedOps.length === 0) return verification
    this.#tellOfOps(taken, verification)
    // Nobody needs the paths any more, and no budget counts them.
    return { ...verification, refusedPaths: [] }
  }

  #tellOfOps(taken: Taken, { refusedOps, refusedPaths }: TrueCommit): void {
    for (const reason of new Set(refusedOps)) {
      const count = refusedOps.filter((other) => other === reason).length
      const first = refusedPaths[refusedOps.indexOf(reason)]
      this.#options.onOpsRefused(refusedFrame(taken, reason, `${count} of its ops, the first is ${first}`))
    }
  }

  #refuse(taken: Taken, reason: Refusal, detail: string): Finding['what'] {
    this.#options.onRefused(refusedFrame(taken, reason, detail))
    return { kind: 'ended', outcome: refused(reason) }
  }

  /** Awaits the network. Meanwhile the frame does not count as busy: the journal does not wait for it. */
  async #waiting<T>(promise: Promise<T>): Promise<T> {
    this.#busy--
    if (this.#busy === 0) this.#options.journal.quiet()
    try {
      return await promise
    } finally {
      this.#busy++
    }
  }
}

function refusedFrame({ source, frame, bytes }: Taken, reason: Refusal, detail: string): RefusedFrame {
  const { did, seq, type } = frame
  return { reason, detail, host: source.host, seq, did, type, bytes }
}

/** A copy of the frame in memory of its own, unless it has most of its buffer to itself. */
function apart(taken: Taken): Taken {
  const { frame, bytes: view } = taken
  if (view.buffer.byteLength <= 2 * view.length) return taken
  const bytes = Buffer.allocUnsafeSlow(view.length)
  bytes.set(view)
  if (!('blocks' in frame)) return { ...taken, bytes }
  const at = frame.blocks.byteOffset - view.byteOffset
  return { ...taken, bytes, frame: { ...frame, blocks: bytes.subarray(at, at + frame.blocks.length) } }
}

function costOf(bytes: Buffer): number {
  return bytes.length + FRAME_OVERHEAD_BYTES
}

function keptOf(commit: TrueCommit, frame: CommitFrame | SyncFrame): number {
  return Math.min(textBytes(commit), roomFor(frame))
}

function isKeyProblem(verification: Verification): boolean {
  return (
    verification.kind === 'refused' &&
    (verification.reason === 'bad-signature' || verification.reason === 'no-signing-key')
  )
}

function eventOf(frame: IdentityFrame | AccountFrame, host: string): StreamEvent {
  const { seq, did } = frame
  const time = eventTime(frame.time, Date.now())
  if (frame.type === 'identity') {
    return { type: 'identity', seq, time, did, ...(frame.handle !== undefined && { handle: frame.handle }) }
  }
  const { active, status } = frame
  return { type: 'account', seq, time, did, active, ...(status !== undefined && { status }), host }
}
