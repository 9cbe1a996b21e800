/**
 * Who must be told of what, and what must be counted: from the world's own record and the verdicts on it, each rule
 * told a second time.
 */
import { holders, quotedIn, createdAtOf, type Embed } from './true-rows.ts'
import { mentionedIn, Verdicts, type TrueVerdicts, type Verdict } from './true-verdicts.ts'
import { accountOf, earlier, type TrueRecord, type Truth } from './truth.ts'

/** A notification, but for its position. */
export interface Told {
  did: string
  recordUri: string
  reason: string
  reasonSubject: string | null
}

/** What is told for certain, and what may be told: whether it is depends on something open. */
export interface TrueNotices {
  certain: Told[]
  open: Told[]
}

interface Ref {
  uri: string
}
interface Fields {
  subject?: string | Ref
  via?: Ref
  reply?: { root: Ref; parent: Ref }
  embed?: Embed
  joinedViaStarterPack?: Ref
}

/** Authors of so many posts above a reply are told of it. */
const LEVELS = 4

/** What is counted of everybody; a key without a count has none. */
export interface Range {
  least: number
  most: number
}
export type Counts = Map<string, Range>

export class TrueCounts {
  /** By URI of a post. */
  readonly verdicts = new Map<string, TrueVerdicts>()
  readonly #truth: Truth
  readonly #judge: Verdicts
  readonly #holders: Map<string, string>

  constructor(truth: Truth) {
    this.#truth = truth
    this.#judge = new Verdicts(truth)
    this.#holders = holders(truth)
    for (const [uri, post] of truth.of(POST)) this.verdicts.set(uri, this.#judge.of(post))
  }

  /** `table.column` → key → count. */
  counters(): Record<string, Counts> {
    const post = this.#truth.of(POST)
    const replies = post.flatMap(([uri, { record }]): [string, Verdict][] => {
      const { reply } = record as Fields
      return reply ? [[reply.parent.uri, not(this.verdicts.get(uri)!.violatesThreadGate)]] : []
    })
    const quotes = post.flatMap(([, { record }]) => quotedIn((record as Fields).embed)?.uri ?? [])
    return {
      'post_agg.likeCount': tally(this.#subjects('app.bsky.feed.like')),
      'post_agg.repostCount': tally(this.#subjects('app.bsky.feed.repost')),
      'post_agg.replyCount': ranges(replies),
      'post_agg.quoteCount': tally(quotes),
      'post_agg.bookmarkCount': tally([]),
      'profile_agg.followersCount': tally(this.#subjects('app.bsky.graph.follow')),
      'profile_agg.followsCount': tally(this.#holding('app.bsky.graph.follow').map(([, { did }]) => did)),
      'profile_agg.postsCount': tally(post.map(([, { did }]) => did)),
    }
  }

  /** Accounts of which readers count lists, feeds and packs, which they do only of those that have counters. */
  makers(): Set<string> {
    const made = ['app.bsky.graph.list', 'app.bsky.feed.generator', 'app.bsky.graph.starterpack']
    return new Set(made.flatMap((collection) => this.#truth.of(collection).map(([, { did }]) => did)))
  }

  notices(): TrueNotices {
    const certain: Told[] = []
    const open: Told[] = []
    for (const [uri, version] of this.#truth.records) {
      if (version.collection === POST) {
        const told = this.#ofPost(uri, version)
        certain.push(...told.certain)
        open.push(...told.open)
      } else if ((this.#holders.get(uri) ?? uri) === uri) certain.push(...ofOther(uri, version))
    }
    for (const [recordUri, { record }] of this.#truth.endedOf('app.bsky.graph.verification')) {
      if (this.#truth.records.has(recordUri)) continue
      const did = record.subject as string
      open.push(...['verified', 'unverified'].map((reason): Told => ({ did, recordUri, reason, reasonSubject: null })))
    }
    return { certain, open }
  }

  /** Where a notification of this record stands among others. */
  static sortAt({ record }: TrueRecord, indexedAt: string): string {
    return earlier(createdAtOf(record, indexedAt), indexedAt)
  }

  /**
   * Of a post each account is told once, for the first of the reasons: it mentions them, quotes them, is below a post
   * of theirs.
   */
  #ofPost(uri: string, post: TrueRecord): TrueNotices {
    const { reply, embed } = post.record as Fields
    const verdicts = this.verdicts.get(uri)!
    const heard = new Heard(uri, post.did)
    for (const did of mentionedIn(post.record)) heard.tell(did, 'mention', null, true)
    const quoted = quotedIn(embed)
    if (quoted) heard.tell(accountOf(quoted.uri), 'quote', quoted.uri, not(verdicts.violatesEmbeddingRules))
    let tells = not(verdicts.violatesThreadGate)
    let above = reply ? [reply.parent.uri] : []
    for (let level = 1; level <= LEVELS && tells !== false; level++) {
      const next: string[] = []
      let goesOn: Verdict = tells
      for (const one of above) {
        const versions = this.#judge.versions(one)
        if (versions.length === 0) continue
        const parents = new Set(versions.map(({ record }) => (record as Fields).reply?.parent.uri))
        const isThere = this.#truth.records.has(one) && parents.size === 1
        heard.tell(accountOf(one), 'reply', one, isThere ? tells : undefined)
        const isHidden = this.#judge.hides(post, reply!.root.uri, one)
        if (isHidden === true) continue
        if (!isThere || isHidden === undefined) goesOn = undefined
        next.push(...[...parents].filter((parent) => parent !== undefined))
      }
      tells = goesOn
      above = next
    }
    return heard
  }

  /** The records that have their rows. */
  #holding(collection: string): [string, TrueRecord][] {
    return this.#truth.of(collection).filter(([uri]) => this.#holders.get(uri) === uri)
  }

  #subjects(collection: string): string[] {
    return this.#holding(collection).map(([, { record }]) => subjectOf(record))
  }
}

const POST = 'app.bsky.feed.post'

/** Who hears of one post. */
class Heard implements TrueNotices {
  readonly certain: Told[] = []
  readonly open: Told[] = []
  readonly #uri: string
  readonly #author: string

  constructor(uri: string, author: string) {
    this.#uri = uri
    this.#author = author
  }

  tell(did: string, reason: string, reasonSubject: string | null, tells: Verdict): void {
    if (tells === false || did === this.#author || this.certain.some((one) => one.did === did)) return
    const isOpen = tells === undefined || this.open.some((one) => one.did === did)
    ;(isOpen ? this.open : this.certain).push({ did, recordUri: this.#uri, reason, reasonSubject })
  }
}

/** Who hears of a record that is no post. */
function ofOther(recordUri: string, { did: author, collection, record }: TrueRecord): Told[] {
  const { via, joinedViaStarterPack: pack } = record as Fields
  const notice = (did: string, reason: string, reasonSubject: string | null = null): Told => {
    return { did, recordUri, reason, reasonSubject }
  }
  switch (collection) {
    case 'app.bsky.feed.like':
    case 'app.bsky.feed.repost': {
      const reason = collection.split('.')[3]!
      const subject = subjectOf(record)
      // Who does it to their own post tells nobody.
      if (accountOf(subject) === author) return []
      const told = [notice(accountOf(subject), reason, subject)]
      if (via && accountOf(via.uri) !== author) told.push(notice(accountOf(via.uri), `${reason}-via-repost`, via.uri))
      return told
    }
    case 'app.bsky.graph.follow':
      return [notice(subjectOf(record), 'follow')]
    case 'app.bsky.graph.verification':
      return [notice(subjectOf(record), 'verified')]
    case 'app.bsky.actor.profile':
      return pack ? [notice(accountOf(pack.uri), 'starterpack-joined', pack.uri)] : []
    default:
      return []
  }
}

function subjectOf({ subject }: Record<string, unknown>): string {
  return typeof subject === 'string' ? subject : (subject as Ref).uri
}

function not(verdict: Verdict): Verdict {
  return verdict === undefined ? undefined : !verdict
}

function tally(keys: readonly string[]): Counts {
  return ranges(keys.map((key) => [key, true]))
}

/** How many count for certain, and how many may. */
function ranges(counted: readonly (readonly [key: string, counts: Verdict])[]): Counts {
  const counts: Counts = new Map()
  for (const [key, does] of counted) {
    if (does === false) continue
    const range = counts.get(key) ?? { least: 0, most: 0 }
    counts.set(key, { least: range.least + (does === true ? 1 : 0), most: range.most + 1 })
  }
  return counts
}
