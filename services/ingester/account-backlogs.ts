/**
 * Bounds the memory that frames hold while their account's identity is being resolved, and says which accounts are not
 * waited for any longer.
 *
 * The network's directory answers for all accounts or for none. A did:web is its own directory: its owner decides how
 * long the answer takes, and how many frames wait for it meanwhile. So one did:web may hold no more than a sixteenth of
 * the memory while it waits, and all of them together no more than a quarter. An account over either limit counts as
 * unavailable until its answer arrives, and its repository is requested instead.
 */
import { IdentityUnavailableError } from './signing-keys.ts'

interface Backlog {
  /** The bytes of its frames that are queued or under way. */
  bytes: number
  /** Rejects the promise that its frame awaits; undefined while none waits. */
  giveUp: ((error: IdentityUnavailableError) => void) | undefined
  /** Its identity is being asked for, though perhaps nobody waits for the answer any more. */
  isAsked: boolean
  /** Why it is not waited for. */
  unavailable: IdentityUnavailableError | undefined
  /**
   * A frame of it was left without a finding. The frames that follow must be left too, or the chain would move past it.
   */
  isLeft: boolean
}

const SHARE_OF_ONE = 1 / 16
const SHARE_OF_ALL = 1 / 4

export class AccountBacklogs {
  readonly #memoryBytes: number
  readonly #backlogs = new Map<string, Backlog>()
  /** The bytes of all accounts that wait. */
  #waitingBytes = 0

  constructor(memoryBytes: number) {
    this.#memoryBytes = memoryBytes
  }

  /** A frame of the account is taken. */
  enter(did: string, bytes: number): void {
    const backlog = this.#backlogs.get(did)
    if (backlog === undefined) {
      const fresh = { bytes, giveUp: undefined, isAsked: false, unavailable: undefined, isLeft: false }
      this.#backlogs.set(did, fresh)
      return
    }
    backlog.bytes += bytes
    if (backlog.giveUp === undefined) return
    this.#waitingBytes += bytes
    this.#look(did, backlog)
  }

  /** A frame of the account has its finding, or (`isLeft`) was given up before it had one. */
  leave(did: string, bytes: number, { isLeft }: { isLeft: boolean }): void {
    const backlog = this.#backlogs.get(did)!
    backlog.bytes -= bytes
    backlog.isLeft ||= isLeft
    if (backlog.bytes === 0 && !backlog.isAsked) this.#backlogs.delete(did)
  }

  /** Whether a frame of the account that came before was left. */
  isLeft(did: string): boolean {
    return this.#backlogs.get(did)!.isLeft
  }

  /**
   * What `ask` brings, for an account that has a frame here and waits for nothing else.
   * @throws IdentityUnavailableError when too much waits for it
   */
  async wait<T>(did: string, ask: () => Promise<T>): Promise<T> {
    if (did.startsWith('did:plc:')) return ask()
    const backlog = this.#backlogs.get(did)!
    if (backlog.unavailable !== undefined) throw backlog.unavailable
    const { promise: given, reject } = Promise.withResolvers<never>()
    backlog.isAsked = true
    const answer = Promise.race([ask().finally(() => this.#answered(did, backlog)), given])
    backlog.giveUp = reject
    this.#waitingBytes += backlog.bytes
    this.#look(did, backlog)
    try {
      return await answer
    } finally {
      backlog.giveUp = undefined
      this.#waitingBytes -= backlog.bytes
    }
  }

  #look(did: string, backlog: Backlog): void {
    const isCrowded =
      backlog.bytes > this.#memoryBytes * SHARE_OF_ONE || this.#waitingBytes > this.#memoryBytes * SHARE_OF_ALL
    if (!isCrowded || backlog.unavailable !== undefined) return
    backlog.unavailable = new IdentityUnavailableError(
      `${did} is not waited for: ${backlog.bytes} bytes of its frames, ${this.#waitingBytes} of all did:webs, wait for their own hosts to say who they are`,
    )
    backlog.giveUp?.(backlog.unavailable)
  }

  #answered(did: string, backlog: Backlog): void {
    backlog.isAsked = false
    backlog.unavailable = undefined
    if (backlog.bytes === 0) this.#backlogs.delete(did)
  }
}
