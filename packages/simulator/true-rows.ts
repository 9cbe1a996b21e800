/**
 * The rows that follow from records alone, by table: what the AppView's readers look for, told by the lexicons' fields.
 * Where several records of an account say the same, the one with the lowest URI has the rows, and the others wait in
 * `duplicate_record`. Nothing here is taken from the plugins.
 */
import { accountOf, earlier, keyOfUri, normalDate, type TrueRecord, type Truth } from './truth.ts'

export type Row = Readonly<Record<string, unknown>>

interface Ref {
  uri: string
  cid: string
}
interface Blob {
  ref: { $link: string }
}
interface Picture {
  image: Blob
  alt: string
}

/** A record, and what its rows share. */
interface Told<R = Fields> {
  uri: string
  did: string
  record: R
  /** Columns of nearly every table. */
  common: Row
  /** When its version was indexed, and where feeds have it. */
  indexedAt: string
  sortAt: string
}

/** The fields that rows are made of, of any lexicon. */
interface Fields {
  subject?: string | Ref
  via?: Ref
  list?: string
  post?: string
  did?: string
  handle?: string
  name?: string
  purpose?: string
  displayName?: string
  description?: string
  descriptionFacets?: unknown
  avatar?: Blob
  banner?: Blob
  joinedViaStarterPack?: Ref
  createdAt?: string
  text?: string
  reply?: { root: Ref; parent: Ref }
  embed?: Embed
  langs?: string[]
  tags?: string[]
}

export interface Embed {
  $type: string
  images?: Picture[]
  items?: Picture[]
  video?: Blob
  alt?: string
  external?: { uri: string; title: string; description: string; thumb?: Blob }
  /** Of `record`: the record; of `recordWithMedia`: such an embed. */
  record?: Ref & { record?: Ref }
  media?: Embed
}

type RowsOf = (told: Told) => [table: string, row: Row][]

const textOf = (value: string | undefined): string | null => value?.replaceAll('\0', '') ?? null
const blobOf = (blob: Blob | undefined): string | null => blob?.ref.$link ?? null
const uriOf = (subject: string | Ref): string => (typeof subject === 'string' ? subject : subject.uri)

/** A row of one subject. */
function about(table: string, column: string): RowsOf {
  return ({ common, record: { subject } }) => [[table, { ...common, [column]: uriOf(subject!) }]]
}

/** A like or a repost. */
function reaction(table: string): RowsOf {
  return ({ common, record: { subject, via } }) => {
    const { uri, cid } = subject as Ref
    return [[table, { ...common, subject: uri, subjectCid: cid, via: via?.uri ?? null, viaCid: via?.cid ?? null }]]
  }
}

function described({ record: { description, descriptionFacets, avatar } }: Told): Row {
  return {
    description: textOf(description),
    descriptionFacets: descriptionFacets === undefined ? null : JSON.stringify(descriptionFacets),
    avatarCid: blobOf(avatar),
  }
}

/** The rows of a record that has its rows, but for what depends on others: verdicts, counters, notifications. */
const ROWS: Readonly<Record<string, RowsOf>> = {
  'app.bsky.feed.post': (told) => [
    ['post', postOf(told)],
    ['feed_item', feedItem(told, 'post', told.uri)],
    ...quoteOf(told),
    ...embedOf(told.uri, told.record.embed),
  ],
  'app.bsky.feed.repost': (told) => [
    ...reaction('repost')(told),
    ['feed_item', feedItem(told, 'repost', uriOf(told.record.subject!))],
  ],
  'app.bsky.feed.like': reaction('like'),
  'app.bsky.graph.follow': about('follow', 'subjectDid'),
  'app.bsky.graph.block': about('actor_block', 'subjectDid'),
  'app.bsky.graph.listblock': about('list_block', 'subjectUri'),
  'app.bsky.graph.referencelistoptout': about('reference_list_opt_out', 'subjectUri'),
  'app.bsky.graph.listitem': ({ common, record: { subject, list } }) => [
    ['list_item', { ...common, subjectDid: subject, listUri: list }],
  ],
  'app.bsky.graph.list': (told) => [
    ['list', { ...told.common, name: textOf(told.record.name), purpose: told.record.purpose, ...described(told) }],
  ],
  'app.bsky.graph.starterpack': ({ common, record: { name } }) => [['starter_pack', { ...common, name: textOf(name) }]],
  'app.bsky.graph.verification': ({ uri, common, record: { subject, handle, displayName } }) => {
    const { sortAt, ...rest } = common
    return [
      [
        'verification',
        { ...rest, sortedAt: sortAt, rkey: keyOfUri(uri), subject, handle, displayName: textOf(displayName) },
      ],
    ]
  },
  'app.bsky.feed.generator': (told) => [
    [
      'feed_generator',
      { ...told.common, feedDid: told.record.did, displayName: textOf(told.record.displayName), ...described(told) },
    ],
  ],
  'app.bsky.labeler.service': ({ common }) => [['labeler', common]],
  'app.bsky.feed.threadgate': gateOf('thread_gate'),
  'app.bsky.feed.postgate': gateOf('post_gate'),
  'app.bsky.actor.profile': ({ common, indexedAt, record }) => {
    const { sortAt: _, ...rest } = common
    const row = {
      ...rest,
      displayName: textOf(record.displayName),
      description: textOf(record.description),
      avatarCid: blobOf(record.avatar),
      bannerCid: blobOf(record.banner),
      joinedViaStarterPackUri: record.joinedViaStarterPack?.uri ?? null,
      createdAt: record.createdAt ?? indexedAt,
      // The AppView's readers take these from the record.
      pinnedPost: null,
      pinnedPostCid: null,
    }
    return [['profile', row]]
  },
}

/** Of the records of an account in which these fields agree, one has the rows. */
const PAIRS: Readonly<Record<string, (record: Fields) => string>> = {
  'app.bsky.feed.like': ({ subject }) => uriOf(subject!),
  'app.bsky.feed.repost': ({ subject }) => uriOf(subject!),
  'app.bsky.graph.follow': ({ subject }) => uriOf(subject!),
  'app.bsky.graph.block': ({ subject }) => uriOf(subject!),
  'app.bsky.graph.listblock': ({ subject }) => uriOf(subject!),
  'app.bsky.graph.referencelistoptout': ({ subject }) => uriOf(subject!),
  'app.bsky.graph.verification': ({ subject }) => uriOf(subject!),
  'app.bsky.graph.listitem': ({ subject, list }) => `${list} ${uriOf(subject!)}`,
}

/**
 * The record that has the rows, by the URI of each one that says the same. Of a record that is not in here it is that
 * record.
 */
export function holders(truth: Truth): Map<string, string> {
  const byPair = new Map<string, string[]>()
  for (const [uri, { did, collection, record }] of truth.records) {
    const pairOf = PAIRS[collection]
    if (!pairOf) continue
    const pair = `${collection} ${did} ${pairOf(record)}`
    const same = byPair.get(pair)
    if (same) same.push(uri)
    else byPair.set(pair, [uri])
  }
  return new Map(
    [...byPair.values()].flatMap((same) => {
      const holder = same.reduce(earlier)
      return same.map((uri): [string, string] => [uri, holder])
    }),
  )
}

/** Adds up the rows of all records, by table. @param indexedAt when the index says that it indexed a record */
export function trueRows(truth: Truth, indexedAt: (uri: string) => string): Map<string, Row[]> {
  const tables = new Map<string, Row[]>()
  const add = (table: string, row: Row): void => {
    const rows = tables.get(table)
    if (rows) rows.push(row)
    else tables.set(table, [row])
  }
  const holderOf = holders(truth)
  for (const [uri, version] of truth.records) {
    const { did, cid, collection, record } = version
    const at = indexedAt(uri)
    add('record', { uri, cid, did, json: record, indexedAt: at, takedownRef: null, tags: null })
    const holder = holderOf.get(uri) ?? uri
    if (holder !== uri) add('duplicate_record', { uri, cid, duplicateOf: holder, indexedAt: at })
    else for (const [table, row] of ROWS[collection]?.(told(uri, version, at)) ?? []) add(table, row)
  }
  return tables
}

/** A version with what its rows share. */
function told(uri: string, { did, cid, record }: TrueRecord, indexedAt: string): Told {
  const createdAt = createdAtOf(record, indexedAt)
  const sortAt = earlier(createdAt, indexedAt)
  return { uri, did, record, indexedAt, sortAt, common: { uri, cid, creator: did, createdAt, indexedAt, sortAt } }
}

export function createdAtOf(record: Record<string, unknown>, indexedAt: string): string {
  return record.createdAt === undefined ? indexedAt : normalDate(record.createdAt as string)
}

function gateOf(table: string): RowsOf {
  return ({ common, record: { post } }) => {
    const { sortAt: _, ...rest } = common
    return [[table, { ...rest, postUri: post }]]
  }
}

/** Without its verdicts. */
function postOf({ common, record: { text, reply, langs, tags } }: Told): Row {
  return {
    ...common,
    text: textOf(text),
    replyRoot: reply?.root.uri ?? null,
    replyRootCid: reply?.root.cid ?? null,
    replyParent: reply?.parent.uri ?? null,
    replyParentCid: reply?.parent.cid ?? null,
    langs: langs?.length ? langs : null,
    tags: tags?.length ? tags : null,
  }
}

function feedItem({ uri, did, common: { cid }, sortAt }: Told, type: string, postUri: string): Row {
  return { uri, cid, type, postUri, originatorDid: did, sortAt }
}

/** What an embed shows of other records. */
function embeddedIn(embed: Embed | undefined): Ref | undefined {
  return embed?.$type === 'app.bsky.embed.recordWithMedia' ? embed.record!.record : embed?.record
}

/** Posts are quoted; other records are shown. */
export function quotedIn(embed: Embed | undefined): Ref | undefined {
  const ref = embeddedIn(embed)
  return ref?.uri.split('/')[3] === 'app.bsky.feed.post' ? ref : undefined
}

function quoteOf({ common, record: { embed } }: Told): [string, Row][] {
  const quoted = quotedIn(embed)
  const { creator: _, ...rest } = common
  return quoted ? [['quote', { ...rest, subject: quoted.uri, subjectCid: quoted.cid }]] : []
}

function embedOf(postUri: string, embed: Embed | undefined): [string, Row][] {
  if (!embed) return []
  const { images = [], items = [], video, alt, external, media } = embed
  const shown = embeddedIn(embed)
  const picture = ({ image, alt: text }: Picture, i: number): Row => {
    return { postUri, position: String(i), imageCid: blobOf(image), alt: textOf(text) }
  }
  return [
    ...images.map((one, i): [string, Row] => ['post_embed_image', picture(one, i)]),
    ...items.map((one, i): [string, Row] => ['post_embed_gallery_image', picture(one, i)]),
    ...(video ? [['post_embed_video', { postUri, videoCid: blobOf(video), alt: textOf(alt) }] as [string, Row]] : []),
    ...(external ? [['post_embed_external', linkOf(postUri, external)] as [string, Row]] : []),
    ...(shown ? [['post_embed_record', { postUri, embedUri: shown.uri, embedCid: shown.cid }] as [string, Row]] : []),
    ...embedOf(postUri, media),
  ]
}

function linkOf(postUri: string, { uri, title, description, thumb }: NonNullable<Embed['external']>): Row {
  return { postUri, uri, title: textOf(title), description: textOf(description), thumbCid: blobOf(thumb) }
}

/** Whether a record is a reply in a thread of its own author, whose place is kept after it is gone. */
export function isInOwnThread({ did, record }: Pick<TrueRecord, 'did' | 'record'>): boolean {
  const { reply } = record as Fields
  return reply !== undefined && accountOf(reply.root.uri) === did
}
