/** What is talked about: of each kind of records the newest, of a bounded number of kinds. */
import { remember } from '@sluice/runtime/remember.ts'
import type { Random } from '@sluice/sandbox/random.ts'

const KEPT = 200
/** A thread is a kind too: that of its replies. */
const KINDS = 20_000

export class Recent {
  readonly #uris = new Map<string, string[]>()
  readonly #random: Random
  readonly #lives: (uri: string) => boolean

  /** @param lives whether a record is still there; only such are picked */
  constructor(random: Random, lives: (uri: string) => boolean) {
    this.#random = random
    this.#lives = lives
  }

  add(kind: string, uri: string): void {
    const uris = this.#uris.get(kind) ?? []
    uris.push(uri)
    remember(this.#uris, kind, uris.length > 2 * KEPT ? uris.slice(-KEPT) : uris, KINDS)
  }

  /** One of them, rather a new one than an old one. @param fits default: any */
  pick(kind: string, fits: (uri: string) => boolean = () => true): string | undefined {
    const uris = (this.#uris.get(kind) ?? []).filter(fits)
    for (let tries = 0; tries < 20 && uris.length > 0; tries++) {
      const uri = this.#random.pickRecent(uris)
      if (this.#lives(uri)) return uri
    }
    return undefined
  }
}
