/**
 * What happens in one compared run. A seed decides it before anything is done: the random history of
 * `testing/history.ts` with varied dates and contents, the collections that the history leaves out, and what happens to
 * accounts. The DIDs here are made up; `traffic.ts` carries the script out on a real PDS.
 */
import type { JsonRecord, RecordEvent } from '@sluice/events/stream-event.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { history } from '../testing/history.ts'

export interface ScriptOptions {
  seed: number
  operations: number
  people: number
}

export type Step =
  | Write
  | { kind: 'deactivate' | 'activate' | 'take down' | 'restore' | 'delete account'; did: string }
  | { kind: 'handle'; did: string }
  | { kind: 'label'; did: string; uri?: string; val: string; negate: boolean }
  /** `did` mutes the thread of `uri`. This is private data, which does not come over the firehose. */
  | { kind: 'mute thread'; did: string; uri: string }

/** One change of a record. `cid` is the made-up CID by which other records name it. */
export interface Write {
  kind: 'write'
  did: string
  collection: string
  rkey: string
  cid?: string
  /** Absent: the record is deleted. */
  record?: JsonRecord
  /** Whether it is in the same commit as the write before it. */
  joined: boolean
}

export function script({ seed, operations, people }: ScriptOptions): Step[] {
  const random = new Random(seed * 7919)
  const events = history({ seed, events: operations, accounts: people, editsVerifications: true })
  const dids = [...new Set(events.map(({ did }) => did))]
  const steps: Step[] = []
  const lifecycle = new Lifecycle(random, dids, operations)
  for (const [i, event] of events.entries()) {
    const before = steps.at(-1)
    const write = varied(random, event)
    write.joined = before?.kind === 'write' && before.did === write.did && joinable(steps, write) && random.chance(0.7)
    steps.push(write)
    if (random.chance(0.06)) steps.push(extra(random, dids, events.slice(0, i + 1)))
    if (random.chance(0.03)) steps.push(label(random, dids, events.slice(0, i + 1), steps))
    if (random.chance(0.02)) steps.push(...muteThread(random, dids, events.slice(0, i + 1)))
    steps.push(...lifecycle.after(i))
  }
  return steps
}

/** Whether a write can join the commit before it: a commit changes a path only once. */
function joinable(steps: readonly Step[], write: Write): boolean {
  for (let i = steps.length - 1; i >= 0; i--) {
    const step = steps[i]!
    if (step.kind !== 'write') return false
    if (step.collection === write.collection && step.rkey === write.rkey) return false
    if (!step.joined) return true
  }
  return true
}

/** Varies a write: dates in the forms that people send; now and then a record that its lexicon forbids. */
function varied(random: Random, event: RecordEvent): Write {
  const { did, collection } = event
  const rkey = earlierKey(event)
  const write: Write = { kind: 'write', did, collection, rkey, joined: false }
  if (event.type === 'delete') return write
  const { createdAt: _, ...rest } = event.record
  const record: JsonRecord = { ...event.record }
  // The AppView does not define the order of two rows with the same date and the same CID, so these dates are all
  // different.
  if ('subject' in record) record.createdAt = event.time
  if (random.chance(0.12)) record.createdAt = dateForm(random, String(record.createdAt))
  if (collection === 'app.bsky.actor.profile' && random.chance(0.3)) delete record.createdAt
  if (collection === 'app.bsky.feed.post' && random.chance(0.1)) Object.assign(record, moreOfPost(random, rest))
  if (random.chance(0.02)) Object.assign(record, invalid(collection))
  return { ...write, cid: event.cid, record }
}

/** Some clocks are behind: then, of two records that say the same, the later one has the lower key. */
function earlierKey({ did, collection, rkey }: RecordEvent): string {
  if (collection === 'app.bsky.feed.post' || !rkey.startsWith('3') || hash(`${did} ${rkey}`) % 12 > 0) return rkey
  return `2${rkey.slice(1)}`
}

function hash(text: string): number {
  let hash = 7
  for (const char of text) hash = (hash * 31 + char.charCodeAt(0)) % 1_000_003
  return hash
}

function dateForm(random: Random, date: string): string {
  const millis = Date.parse(date)
  return random.pick([
    date.replace(/\.\d+Z$/, 'Z'),
    date.replace('Z', '000Z'),
    date.replace('Z', '+00:00'),
    new Date(millis + 7_200_000).toISOString().replace('Z', '+02:00'),
    `2099-01-01T00:00:00.${millis % 1000}Z`,
    `1985-04-12T23:20:${10 + (Math.floor(millis / 1000) % 50)}.${100_000 + random.below(800_000)}Z`,
  ])
}

function moreOfPost(random: Random, rest: object): object {
  const labels = { $type: 'com.atproto.label.defs#selfLabels', values: [{ val: 'porn' }] }
  const more = random.pick<object>([{ tags: ['one', 'two'] }, { labels }, { langs: [] }, { text: '' }])
  return 'embed' in rest ? more : { ...more, ...(random.chance(0.5) ? { embed: gallery() } : {}) }
}

function gallery(): object {
  const image = (content: string) => ({
    $type: 'app.bsky.embed.gallery#image',
    image: { $type: 'blob', ref: { $link: content }, mimeType: 'image/png', size: 1 },
    alt: content,
    aspectRatio: { width: 4, height: 3 },
  })
  return { $type: 'app.bsky.embed.gallery', items: [image('a'), image('b'), image('c')] }
}

function invalid(collection: string): object {
  switch (collection) {
    case 'app.bsky.feed.post':
      return { text: 7 }
    case 'app.bsky.actor.profile':
      return { displayName: 'long '.repeat(200) }
    default:
      return { createdAt: 'yesterday' }
  }
}

const DECLARATIONS: readonly ((random: Random) => JsonRecord)[] = [
  (random) => ({ $type: 'chat.bsky.actor.declaration', allowIncoming: random.pick(['all', 'none', 'following']) }),
  (random) => ({
    $type: 'app.bsky.notification.declaration',
    allowSubscriptions: random.pick(['followers', 'mutuals', 'none']),
  }),
  (random) => ({
    $type: 'com.germnetwork.declaration',
    version: '1.0.0',
    currentKey: {
      $bytes: Buffer.from([random.below(256), 1, 2, 3])
        .toString('base64')
        .replace(/=+$/, ''),
    },
  }),
  // A record of a lexicon that neither side indexes.
  (random) => ({ $type: 'com.example.sandbox.note', note: `note ${random.below(9)}` }),
]

/** Collections, fields and references that the history does not have. */
function extra(random: Random, dids: readonly string[], events: readonly RecordEvent[]): Write {
  const did = random.pick(dids)
  if (random.chance(0.2)) {
    const odd = oddReply(random, did, events)
    if (odd) return odd
  }
  const cid = `made up ${random.below(2 ** 30)}`
  const post = events.findLast((event) => event.did === did && event.type === 'create' && isPost(event))
  if (post?.type === 'create' && random.chance(0.4)) {
    const uri = `at://${did}/${post.collection}/${post.rkey}`
    const pinned = { displayName: 'pinned', pinnedPost: { uri, cid: post.cid }, createdAt: post.record.createdAt }
    const record = { $type: 'app.bsky.actor.profile', ...pinned }
    return { kind: 'write', did, collection: record.$type, rkey: 'self', cid, record, joined: false }
  }
  const record = random.pick(DECLARATIONS)(random)
  return { kind: 'write', did, collection: record.$type!, rkey: 'self', cid, record, joined: false }
}

/** A reply to a list or to a feed generator; or a reply that names its thread by handle, which is refused. */
function oddReply(random: Random, did: string, events: readonly RecordEvent[]): Write | undefined {
  const isByHandle = random.chance(0.3)
  const answered = events.findLast(
    (event) => event.type === 'create' && (isByHandle ? isPost(event) : NO_POSTS.has(event.collection)),
  )
  if (answered?.type !== 'create') return undefined
  const uri = `at://${answered.did}/${answered.collection}/${answered.rkey}`
  const parent = { uri, cid: answered.cid }
  const root = isByHandle ? { ...parent, uri: uri.replace(answered.did, 'somebody.test') } : parent
  const { rev, time: createdAt } = events.at(-1)!
  const record = { $type: 'app.bsky.feed.post', text: 'odd', reply: { root, parent }, createdAt }
  // A key that no other record has: of the same moment, with another clock identifier.
  const rkey = `${rev.slice(0, -1)}z`
  return { kind: 'write', did, collection: record.$type, rkey, cid: `odd ${rkey}`, record, joined: false }
}

const NO_POSTS = new Set(['app.bsky.graph.list', 'app.bsky.feed.generator'])

function isPost({ collection }: RecordEvent): boolean {
  return collection === 'app.bsky.feed.post'
}

function label(random: Random, dids: readonly string[], events: readonly RecordEvent[], steps: readonly Step[]): Step {
  const earlier = steps.filter((step) => step.kind === 'label')
  if (earlier.length > 0 && random.chance(0.3)) return { ...random.pick(earlier), negate: true }
  const val = random.pick(['spam', '!hide', 'porn', '!takedown', 'rude'])
  const { did, collection, rkey } = random.pick(events)
  if (random.chance(0.3)) return { kind: 'label', did: random.pick(dids), val, negate: false }
  return { kind: 'label', did, uri: `at://${did}/${collection}/${rkey}`, val, negate: false }
}

function muteThread(random: Random, dids: readonly string[], events: readonly RecordEvent[]): Step[] {
  const posts = events.filter((event) => event.type === 'create' && isPost(event) && !event.record.reply)
  if (posts.length === 0) return []
  const { did, collection, rkey } = random.pick(posts)
  // Mostly the thread's author mutes it, who is told of most of it.
  const by = random.chance(0.7) ? did : random.pick(dids)
  return [{ kind: 'mute thread', did: by, uri: `at://${did}/${collection}/${rkey}` }]
}

/** Accounts that leave and come back, never two at once. One account is deleted near the end. */
class Lifecycle {
  readonly #random: Random
  readonly #dids: readonly string[]
  readonly #operations: number
  #away: { did: string; back: Step['kind']; at: number } | undefined

  constructor(random: Random, dids: readonly string[], operations: number) {
    this.#random = random
    this.#dids = dids
    this.#operations = operations
  }

  after(i: number): Step[] {
    const random = this.#random
    if (i === Math.floor(this.#operations * 0.95)) return [{ kind: 'delete account', did: this.#dids.at(-1)! }]
    if (this.#away) {
      if (i < this.#away.at) return []
      const { did, back } = this.#away
      this.#away = undefined
      return [{ kind: back, did } as Step]
    }
    if (i > this.#operations * 0.85 || !random.chance(0.025)) return []
    const did = random.pick(this.#dids)
    const act = random.pick(['deactivate', 'take down', 'handle'] as const)
    if (act === 'handle') return [{ kind: 'handle', did }]
    this.#away = { did, back: act === 'deactivate' ? 'activate' : 'restore', at: i + 5 + random.below(15) }
    return [{ kind: act, did }]
  }
}
