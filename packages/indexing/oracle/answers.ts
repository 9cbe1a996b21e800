/**
 * Asks two AppViews the same questions: profiles, feeds, threads, timelines, notifications, lists, likes, follows,
 * search; as different people, and without an account.
 *
 * The followers that a viewer knows come in no order, so they are compared as sets. The AppView gives up on them after
 * 100 ms, so a question whose answers differ is asked again. Notifications are ordered by their time alone, so those of
 * the same time are compared as a set.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Tables } from './tables.ts'

export interface Question {
  method: string
  params: Readonly<Record<string, string | readonly string[]>>
  /** Who asks. Absent: somebody who is not signed in. */
  viewer?: string
}

type Anonymous = Omit<Question, 'viewer'>

/** How many accounts are asked about one by one. */
const ACTORS = 6

const AUTHOR_FEED_FILTERS = [
  'posts_with_replies',
  'posts_no_replies',
  'posts_with_media',
  'posts_and_author_threads',
  'posts_with_video',
]

/** The questions that these rows allow, for each of `viewers`. */
export function questions(rows: Tables, viewers: readonly string[]): Question[] {
  const dids = rows.all('actor').map(({ did }) => String(did))
  const uris = (table: Parameters<Tables['all']>[0], column: string, count: number): string[] =>
    [...new Set(rows.all(table).map((row) => String(row[column])))].toSorted().slice(0, count)
  const talked = uris('post_agg', 'uri', 400).filter((uri) => rows.at('post', uri).length > 0)
  const threads = [
    ...talked.filter((_, i) => i % 8 === 0).slice(0, 6),
    ...uris('post', 'replyRoot', 4).filter((uri) => uri !== 'null'),
  ]
  const asked: Anonymous[] = [
    { method: 'actor.getProfiles', params: { actors: dids.slice(0, 25) } },
    { method: 'feed.getPosts', params: { uris: uris('post', 'uri', 25) } },
    { method: 'labeler.getServices', params: { dids: dids.slice(0, 25), detailed: 'true' } },
    { method: 'feed.getFeedGenerators', params: { feeds: uris('feed_generator', 'uri', 10) } },
    { method: 'graph.getStarterPacks', params: { uris: uris('starter_pack', 'uri', 10) } },
    { method: 'feed.searchPosts', params: { q: 'edited' } },
    { method: 'actor.searchActors', params: { q: 'someone' } },
    ...dids.slice(0, ACTORS).flatMap(aboutActor),
    ...threads.flatMap((uri): Anonymous[] => [
      { method: 'feed.getPostThread', params: { uri } },
      { method: 'unspecced.getPostThreadV2', params: { anchor: uri, branchingFactor: '10', below: '10' } },
    ]),
    ...talked
      .filter((_, i) => i % 5 === 0)
      .slice(0, 5)
      .flatMap((uri) =>
        ['feed.getLikes', 'feed.getRepostedBy', 'feed.getQuotes'].map((method) => ({ method, params: { uri } })),
      ),
    ...uris('list', 'uri', 4).flatMap((list) =>
      ['graph.getList', 'feed.getListFeed'].map((method) => ({ method, params: { list } })),
    ),
    ...uris('starter_pack', 'uri', 2).map((starterPack) => ({
      method: 'graph.getStarterPack',
      params: { starterPack },
    })),
    ...uris('feed_generator', 'uri', 2).map((feed) => ({ method: 'feed.getFeedGenerator', params: { feed } })),
  ]
  const answerable = asked.filter(({ params }) => Object.values(params).every((value) => value.length > 0))
  return [
    // Without a viewer an answer lacks only what depends on the viewer, so a third of the questions is enough.
    ...answerable.filter((_, i) => i % 3 === 0),
    ...viewers.flatMap((viewer) => [...answerable, ...ofViewer(viewer, dids)].map((q) => ({ ...q, viewer }))),
  ]
}

function aboutActor(actor: string): Anonymous[] {
  return [
    { method: 'actor.getProfile', params: { actor } },
    ...AUTHOR_FEED_FILTERS.map((filter) => ({ method: 'feed.getAuthorFeed', params: { actor, filter } })),
    ...[
      'graph.getFollowers',
      'graph.getFollows',
      'graph.getLists',
      'graph.getActorStarterPacks',
      'feed.getActorFeeds',
    ].map((method) => ({ method, params: { actor } })),
  ]
}

function ofViewer(viewer: string, dids: readonly string[]): Anonymous[] {
  const [other = viewer] = dids.filter((did) => did !== viewer)
  return [
    { method: 'feed.getTimeline', params: {} },
    { method: 'feed.getTimeline', params: { limit: '10' } },
    { method: 'feed.getActorLikes', params: { actor: viewer } },
    { method: 'notification.listNotifications', params: {} },
    { method: 'notification.listNotifications', params: { reasons: ['reply', 'quote', 'mention'] } },
    { method: 'notification.getUnreadCount', params: {} },
    { method: 'graph.getBlocks', params: {} },
    { method: 'graph.getListBlocks', params: {} },
    { method: 'graph.getKnownFollowers', params: { actor: other } },
    { method: 'graph.getRelationships', params: { actor: viewer, others: dids.slice(0, 30) } },
    { method: 'graph.getListsWithMembership', params: { actor: other } },
    { method: 'graph.getStarterPacksWithMembership', params: { actor: other } },
  ]
}

export interface Asked {
  /** How many questions were answered with status 200, by method. */
  answered: Map<string, number>
  /** Questions whose answers differ, with the part where they begin to differ. */
  different: { question: Question; official: string; ours: string }[]
}

const TRIES = 4

/**
 * Asks both AppViews, and compares their answers.
 * @param labeler the DID of the labeler whose labels are asked for
 */
export async function ask(
  [officialUrl, ourUrl]: readonly [string, string],
  asked: readonly Question[],
  labeler: string,
): Promise<Asked> {
  const result: Asked = { answered: new Map(), different: [] }
  for (const question of asked) {
    let official = '',
      ours = ''
    for (let tries = 0; tries < TRIES; tries++) {
      if (tries > 0) await sleep(200 * tries)
      ;[official, ours] = await Promise.all(
        [officialUrl, ourUrl].map((url) => answer(url, question, labeler)) as [Promise<string>, Promise<string>],
      )
      if (official === ours) break
    }
    if (official !== ours) result.different.push({ question, ...whereTheyDiffer(official, ours) })
    if (official.startsWith('200'))
      result.answered.set(question.method, (result.answered.get(question.method) ?? 0) + 1)
  }
  return result
}

function whereTheyDiffer(official: string, ours: string): { official: string; ours: string } {
  let at = 0
  while (official[at] === ours[at]) at++
  const part = (text: string): string => text.slice(Math.max(0, at - 200), at + 200)
  return { official: part(official), ours: part(ours) }
}

async function answer(url: string, { method, params, viewer }: Question, labeler: string): Promise<string> {
  const query = new URLSearchParams(
    Object.entries(params).flatMap(([name, value]) =>
      typeof value === 'string'
        ? [[name, value] as [string, string]]
        : value.map((item): [string, string] => [name, item]),
    ),
  )
  // The AppView accepts its administrator's statement of who asks.
  const as = viewer && { authorization: `Basic ${btoa('admin:admin-pass')}`, 'appview-as-did': viewer }
  const headers = { 'atproto-accept-labelers': labeler, ...as }
  const response = await fetch(`${url}/xrpc/app.bsky.${method}?${query.toString()}`, { headers })
  const body = (await response.json()) as object
  const comparable = method === 'graph.getKnownFollowers' ? sorted(body, 'followers') : unordered(body)
  return `${response.status} ${JSON.stringify(comparable)}`
}

/** Sorts the parts of an answer that come in no order. */
function unordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(unordered)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, item]: [string, unknown]) => {
      if (key === 'knownFollowers') return [key, sorted(item as object, 'followers')]
      if (key === 'notifications') return [key, tiesSorted(item as { indexedAt: string }[])]
      return [key, unordered(item)]
    }),
  )
}

function sorted<K extends string>(value: { [key in K]?: unknown }, key: K): object {
  return { ...value, [key]: (value[key] as object[] | undefined)?.map((item) => JSON.stringify(item)).toSorted() }
}

function tiesSorted(notifications: readonly { indexedAt: string }[]): string[] {
  const texts = notifications.map((item) => ({ at: item.indexedAt, text: JSON.stringify(unordered(item)) }))
  return [...Map.groupBy(texts, ({ at }) => at).values()].flatMap((same) => same.map(({ text }) => text).toSorted())
}
