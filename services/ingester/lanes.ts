/**
 * What the frames of each account hold of the memory while its identity is asked for, and who is not waited for because of it.
 *
 * The network's directory answers for all accounts or for none. A did:web is its own directory: its owner decides how long the answer takes, and
 * how many frames wait for it meanwhile. So of these no account may hold more than a sixteenth of the memory while it waits, and all together no
 * more than a quarter. Who does is unavailable until the answer is there: its repository is asked for instead.
 */
import { IdentityUnavailableError } from './signing-keys.ts'

interface Lane {
  /** Of its frames that are queued or under way. */
  bytes: number
  /** Rejects what its frame waits for; undefined while none waits. */
  giveUp: ((error: IdentityUnavailableError) => void) | undefined
  /** Its identity is asked for, though perhaps nobody waits for the answer any more. */
  isAsked: boolean
  /** Why it is not waited for. */
  unavailable: IdentityUnavailableError | undefined
  /** A frame of it was left: what follows must be left too, or the chain would move past it. */
  isLeft: boolean
}

const SHARE_OF_ONE = 1 / 16
const SHARE_OF_ALL = 1 / 4

export class Lanes {
  readonly #memoryBytes: number
  readonly #lanes = new Map<string, Lane>()
  /** Of the lanes that wait. */
  #waitingBytes = 0

  constructor(memoryBytes: number) {
    this.#memoryBytes = memoryBytes
  }

  /** A frame of the account is taken. */
  enter(did: string, bytes: number): void {
    const lane = this.#lanes.get(did)
    if (lane === undefined) {
      const fresh = { bytes, giveUp: undefined, isAsked: false, unavailable: undefined, isLeft: false }
      this.#lanes.set(did, fresh)
      return
    }
    lane.bytes += bytes
    if (lane.giveUp === undefined) return
    this.#waitingBytes += bytes
    this.#look(did, lane)
  }

  /** A frame of the account has its finding, or was left. */
  leave(did: string, bytes: number, isLeft: boolean): void {
    const lane = this.#lanes.get(did)!
    lane.bytes -= bytes
    lane.isLeft ||= isLeft
    if (lane.bytes === 0 && !lane.isAsked) this.#lanes.delete(did)
  }

  /** Whether a frame of the account that came before was left. */
  isLeft(did: string): boolean {
    return this.#lanes.get(did)!.isLeft
  }

  /**
   * What `ask` brings, for an account that has a frame here and waits for nothing else.
   * @throws IdentityUnavailableError when too much waits for it
   */
  async wait<T>(did: string, ask: () => Promise<T>): Promise<T> {
    if (did.startsWith('did:plc:')) return ask()
    const lane = this.#lanes.get(did)!
    if (lane.unavailable !== undefined) throw lane.unavailable
    const { promise: given, reject } = Promise.withResolvers<never>()
    lane.isAsked = true
    const answer = Promise.race([ask().finally(() => this.#answered(did, lane)), given])
    lane.giveUp = reject
    this.#waitingBytes += lane.bytes
    this.#look(did, lane)
    try {
      return await answer
    } finally {
      lane.giveUp = undefined
      this.#waitingBytes -= lane.bytes
    }
  }

  #look(did: string, lane: Lane): void {
    const isCrowded =
      lane.bytes > this.#memoryBytes * SHARE_OF_ONE || this.#waitingBytes > this.#memoryBytes * SHARE_OF_ALL
    if (!isCrowded || lane.unavailable !== undefined) return
    lane.unavailable = new IdentityUnavailableError(
      `${did} is not waited for: ${lane.bytes} bytes of its frames, ${this.#waitingBytes} of all did:webs, wait for their own hosts to say who they are`,
    )
    lane.giveUp?.(lane.unavailable)
  }

  #answered(did: string, lane: Lane): void {
    lane.isAsked = false
    lane.unavailable = undefined
    if (lane.bytes === 0) this.#lanes.delete(did)
  }
}
