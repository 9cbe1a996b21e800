/**
 * Random histories of a small network, as events in their natural order: valid records of every collection, edits,
 * deletions, second likes of the same post, gates of every kind, replies to what is gone. There are few accounts, so
 * that everything meets everything.
 */
import { tidFromMicros } from '@sluice/events/tid.ts'
import type { DeleteEvent, JsonRecord, RecordEvent } from '@sluice/events/stream-event.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { cidOf, hash } from './made-up.ts'
import { PAIRS, RecordMaker, type Living } from './record-maker.ts'

export interface HistoryOptions {
  seed: number
  events: number
  accounts?: number
  /** Whether verifications are edited too. Default: no. */
  editsVerifications?: boolean
}

const EPOCH_MICROS = Date.parse('2026-06-01T00:00:00.000Z') * 1000
const MILLISECOND = 1_000
const WEIGHTS = {
  post: 10,
  reply: 20,
  quote: 5,
  like: 14,
  repost: 6,
  follow: 8,
  block: 2,
  list: 2,
  listitem: 4,
  listblock: 1,
  threadgate: 5,
  postgate: 3,
  profile: 3,
  starterpack: 1,
  verification: 3,
  generator: 1,
  labeler: 1,
  optout: 1,
  status: 1,
  again: 6,
  edit: 6,
  anew: 2,
  delete: 18,
} as const
type Act = keyof typeof WEIGHTS

export function history(options: HistoryOptions): RecordEvent[] {
  return new History(options).events
}

class History {
  readonly events: RecordEvent[] = []
  readonly #random: Random
  readonly #dids: string[]
  readonly #maker: RecordMaker
  #micros = EPOCH_MICROS

  constructor({ seed, events, accounts = 6, editsVerifications = false }: HistoryOptions) {
    this.#random = new Random(seed)
    this.#dids = Array.from({ length: accounts }, (_, i) => `did:plc:${hash(`${seed} ${i}`).slice(0, 24)}`)
    this.#maker = new RecordMaker({
      random: this.#random,
      dids: this.#dids,
      count: () => this.events.length,
      now: () => this.#time(MILLISECOND),
      editsVerifications,
    })
    while (this.events.length < events) this.#act(this.#random.weighted(WEIGHTS))
  }

  #act(act: Act): void {
    const did = this.#random.pick(this.#dids)
    switch (act) {
      case 'delete':
        return this.#delete()
      case 'edit':
        return this.#edit()
      case 'again':
        return this.#again()
      case 'anew':
        return this.#anew()
      default: {
        const made = this.#maker.make(act, did)
        if (made) this.#create(did, made.collection, made.rkey ?? this.#tid(), made.record)
      }
    }
  }

  /** Writes the same once more: a second like, follow or repost of the same subject. */
  #again(): void {
    const candidates = this.#maker.living.filter(({ collection }) => collection in PAIRS)
    if (candidates.length === 0) return
    const { did, collection, record } = this.#random.pick(candidates)
    this.#create(did, collection, this.#tid(), { ...record })
  }

  #edit(): void {
    const { living } = this.#maker
    if (living.length === 0) return
    const old = this.#random.pick(living.slice(-40))
    const record = this.#maker.edited(old)
    if (record) this.#create(old.did, old.collection, old.rkey, record)
  }

  #anew(): void {
    const gone = this.#maker.gone().filter(({ collection }) => collection === 'app.bsky.feed.post')
    if (gone.length === 0) return
    const old = this.#random.pick(gone.slice(-20))
    this.#create(old.did, old.collection, old.rkey, this.#maker.anew(old))
  }

  #delete(): void {
    const { living } = this.#maker
    if (living.length === 0) return
    const { uri, did, collection, rkey } = this.#random.pick(living.slice(-60))
    this.#maker.remove(uri)
    const event: DeleteEvent = { type: 'delete', ...this.#commit(did), collection, rkey }
    this.events.push(event)
  }

  #create(did: string, collection: string, rkey: string, content: Record<string, unknown>): void {
    const record: JsonRecord = { $type: collection, createdAt: this.#time(MILLISECOND), ...content }
    const uri = `at://${did}/${collection}/${rkey}`
    const made: Living = { did, collection, rkey, uri, cid: cidOf(`${uri} ${JSON.stringify(record)}`), record }
    this.events.push({
      type: this.#maker.put(made) ? 'update' : 'create',
      ...this.#commit(did),
      collection,
      rkey,
      cid: made.cid,
      record,
    })
  }

  #commit(did: string) {
    const rev = this.#tid()
    return { seq: this.events.length + 1, time: this.#time(), did, commit: cidOf(rev), rev }
  }

  /** A TID, later with each call. */
  #tid(): string {
    this.#micros += 1 + this.#random.below(20_000_000)
    return tidFromMicros(this.#micros, 7)
  }

  /**
   * The current time. A record is made after the last commit, by the milliseconds of its date too. Otherwise a gate
   * could, by its date, be older than a reply of the same millisecond that was there before it.
   */
  #time(passed = 0): string {
    this.#micros += passed
    return new Date(this.#micros / 1000).toISOString()
  }
}
