/** The records that people write, as lexicon JSON with the placeholders of `plan.ts`. */
import type { Random } from './random.ts'

/** Lexicon JSON with placeholders. */
export type Planned = { [key: string]: unknown }

export interface Draft {
  kind: 'profile' | 'post' | 'list' | 'tie' | 'gate' | 'other'
  collection: string
  rkey: string
  record: Planned
  /** Only for a reply: the number of the thread's first post. */
  root?: number
}

/** A record that exists at this point of the plan. */
export interface Living extends Draft {
  id: number
  who: number
}

/** Who writes, when, and the records to which the new one can refer. */
export interface Situation {
  who: number
  createdAt: string
  /** The record key, if the record does not have a fixed one. */
  rkey: string
  random: Random
  living: readonly Living[]
  people: readonly string[]
}

type Writer = (now: Situation) => Draft | undefined

/** One function for each kind of record. It returns undefined when there is no record to refer to. */
export const WRITERS = {
  profile: (now) => draft(now, 'profile', 'app.bsky.actor.profile', profile(now), 'self'),
  post: (now) => post(now, {}),
  image: (now) => post(now, { embed: images(now.random) }),
  external: (now) => post(now, { embed: external(now.random) }),
  reply: (now) => {
    const parent = recent(now, 'post')
    if (!parent) return undefined
    const root = parent.root ?? parent.id
    return { ...post(now, { reply: { root: { $ref: root }, parent: { $ref: parent.id } } }), root }
  },
  quote: (now) => {
    const quoted = recent(now, 'post')
    if (!quoted) return undefined
    const record = { $type: 'app.bsky.embed.record', record: { $ref: quoted.id } }
    const withMedia = { $type: 'app.bsky.embed.recordWithMedia', record, media: images(now.random) }
    return post(now, { embed: now.random.chance(0.25) ? withMedia : record })
  },
  like: (now) => reaction(now, 'app.bsky.feed.like'),
  repost: (now) => reaction(now, 'app.bsky.feed.repost'),
  follow: (now) => draft(now, 'tie', 'app.bsky.graph.follow', { subject: { $person: somebodyElse(now) } }),
  block: (now) => draft(now, 'tie', 'app.bsky.graph.block', { subject: { $person: somebodyElse(now) } }),
  list: (now) => {
    const purpose = now.random.pick(['app.bsky.graph.defs#curatelist', 'app.bsky.graph.defs#modlist'])
    return draft(now, 'list', 'app.bsky.graph.list', {
      name: words(now.random, 2),
      purpose,
      description: words(now.random, 6),
    })
  },
  listItem: (now) => {
    const list = ownList(now)
    if (!list) return undefined
    return draft(now, 'other', 'app.bsky.graph.listitem', {
      subject: { $person: somebodyElse(now) },
      list: { $uri: list.id },
    })
  },
  listBlock: (now) => {
    const list = ownList(now)
    return list && draft(now, 'other', 'app.bsky.graph.listblock', { subject: { $uri: list.id } })
  },
  starterPack: (now) => {
    const list = ownList(now)
    return (
      list && draft(now, 'other', 'app.bsky.graph.starterpack', { name: words(now.random, 2), list: { $uri: list.id } })
    )
  },
  feedGenerator: (now) => {
    return draft(now, 'other', 'app.bsky.feed.generator', {
      did: 'did:web:feeds.test',
      displayName: words(now.random, 2),
    })
  },
  threadGate: (now) => gate(now, 'app.bsky.feed.threadgate', THREAD_RULES),
  postGate: (now) => gate(now, 'app.bsky.feed.postgate', POST_RULES),
  /** A record of a lexicon that no program here knows. */
  foreign: (now) => {
    return draft(now, 'other', 'com.example.sandbox.note', {
      note: words(now.random, 5),
      size: now.random.below(1_000),
    })
  },
} satisfies Record<string, Writer>

export type Kind = keyof typeof WRITERS

function draft(now: Situation, kind: Draft['kind'], collection: string, record: Planned, rkey = now.rkey): Draft {
  return { kind, collection, rkey, record: { $type: collection, ...record, createdAt: now.createdAt } }
}

function post(now: Situation, parts: Planned): Draft {
  return draft(now, 'post', 'app.bsky.feed.post', { ...richText(now), ...parts })
}

function reaction(now: Situation, collection: string): Draft | undefined {
  const subject = recent(now, 'post')
  return subject && draft(now, 'tie', collection, { subject: { $ref: subject.id } })
}

/** A gate for the first post of a thread. It has the key of its post, and a post has at most one gate of each kind. */
function gate(now: Situation, collection: string, rules: readonly Planned[]): Draft | undefined {
  const taken = new Set(now.living.filter((record) => record.collection === collection).map(({ rkey }) => rkey))
  const free = now.living.filter(({ kind, who, root, rkey }) => {
    return kind === 'post' && who === now.who && root === undefined && !taken.has(rkey)
  })
  if (free.length === 0) return undefined
  const { id, rkey } = now.random.pickRecent(free)
  return draft(now, 'gate', collection, { post: { $uri: id }, ...now.random.pick(rules) }, rkey)
}

const THREAD_RULES = [
  {},
  { allow: [] },
  { allow: [{ $type: 'app.bsky.feed.threadgate#mentionRule' }] },
  { allow: [{ $type: 'app.bsky.feed.threadgate#followingRule' }] },
]
const POST_RULES = [{}, { embeddingRules: [{ $type: 'app.bsky.feed.postgate#disableRule' }] }]

function recent({ living, random }: Situation, kind: Draft['kind']): Living | undefined {
  const fitting = living.filter((record) => record.kind === kind)
  return fitting.length > 0 ? random.pickRecent(fitting) : undefined
}

function ownList({ living, random, who }: Situation): Living | undefined {
  const lists = living.filter((record) => record.kind === 'list' && record.who === who)
  return lists.length > 0 ? random.pick(lists) : undefined
}

function somebodyElse({ who, random, people }: Situation): number {
  return (who + 1 + random.below(people.length - 1)) % people.length
}

function profile({ random, people, who }: Situation): Planned {
  return {
    displayName: `${people[who]} ${random.pick(['', '🌊', '(she/her)', 'Ω'])}`.trim(),
    description: words(random, 8),
    ...(random.chance(0.8) && { avatar: { $blob: random.below(PICTURES) } }),
  }
}

/** How many pictures each person has. */
export const PICTURES = 3

function images(random: Random): Planned {
  const picture = (): Planned => {
    return { alt: words(random, 3), image: { $blob: random.below(PICTURES) }, aspectRatio: { width: 4, height: 3 } }
  }
  return { $type: 'app.bsky.embed.images', images: Array.from({ length: 1 + random.below(4) }, picture) }
}

function external(random: Random): Planned {
  return {
    $type: 'app.bsky.embed.external',
    external: {
      uri: `https://example.com/${random.below(10_000)}`,
      title: words(random, 4),
      description: words(random, 9),
      ...(random.chance(0.5) && { thumb: { $blob: random.below(PICTURES) } }),
    },
  }
}

/** Text, sometimes with a mention, a link or a tag; facets count bytes of UTF-8. */
function richText({ random, people }: Situation): Planned {
  const text = words(random, 3 + random.below(12))
  const langs = { langs: [random.pick(['en', 'pt', 'ja', 'de'])] }
  if (random.chance(0.7)) return { text, ...langs }
  const person = random.below(people.length)
  const [end, feature] = random.pick<[string, Planned]>([
    [`@${people[person]}.test`, { $type: 'app.bsky.richtext.facet#mention', did: { $person: person } }],
    ['https://example.com/a', { $type: 'app.bsky.richtext.facet#link', uri: 'https://example.com/a' }],
    ['#sluice', { $type: 'app.bsky.richtext.facet#tag', tag: 'sluice' }],
  ])
  const byteStart = Buffer.byteLength(`${text} `)
  const index = { byteStart, byteEnd: byteStart + Buffer.byteLength(end) }
  return { text: `${text} ${end}`, ...langs, facets: [{ index, features: [feature] }] }
}

const WORDS = [
  ...'water finds its level the gate opens slowly naïve café Straße año 水門 поток 🦋 👩‍👩‍👧 "quoted" <b> &amp; $1 {"json":1} ﷺ'.split(
    ' ',
  ),
  'back\\slash',
  'tab\there',
  'line\nbreak',
  'e\u0301',
]

function words(random: Random, count: number): string {
  return Array.from({ length: count }, () => random.pick(WORDS)).join(' ')
}
