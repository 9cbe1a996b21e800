/** C5: of what is remembered, judging a post loads what can count at its time, and that is what all of it would say. */
import type { Sql } from '@sluice/collections/depends.ts'
import { LoadedFacts } from '@sluice/collections/threads/facts.ts'
import { followKey, listItemKey, postGateKey, threadGateKey } from '@sluice/collections/threads/gates.ts'
import type { Judged } from '@sluice/collections/threads/judge.ts'
import { loadFacts } from '@sluice/collections/threads/load-facts.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { sqlOf } from './sql.ts'

const ANN = 'did:plc:ann222222222222222222222'
const BOB = 'did:plc:bob222222222222222222222'
const LIST = `at://${ANN}/app.bsky.graph.list/friends`
const post = (key: number | string): string => `at://${ANN}/app.bsky.feed.post/${key}`
const time = (n: number): string => `3m${String(n).padStart(11, '0')}`

const RULES = ['mentioned', 'follower', 'following'].map((rule) => ({ rule }))
const GATE = { allow: [...RULES, { rule: 'list', list: LIST }], hiddenReplies: [] }

interface Past {
  uri: string
  key: string
  since: string
  until: string
  fact: object | boolean | null
}

function poolOn(url: string): DatabasePool {
  return new DatabasePool({ url, schema: 'bsky', size: 2, role: 'test', byKey: true })
}

async function remember(db: DatabasePool, facts: readonly Past[]): Promise<void> {
  await db.query(
    `insert into past_fact (uri, did, key, since, until, fact)
    select uri, split_part(uri, '/', 3), key, since, until, fact::jsonb
    from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) as past (uri, key, since, until, fact)
    on conflict do nothing`,
    [
      facts.map(({ uri }) => uri),
      facts.map(({ key }) => key),
      facts.map(({ since }) => since),
      facts.map(({ until }) => until),
      facts.map(({ fact }) => JSON.stringify(fact)),
    ],
  )
}

/** Loads with one session; tells what each row was. */
async function load(db: DatabasePool, posts: readonly Judged[]): Promise<{ facts: LoadedFacts; rows: object[] }> {
  const facts = new LoadedFacts()
  const rows: object[] = []
  await db.session(async (session) => {
    const inner = sqlOf(session)
    const sql: Sql = {
      async query<T extends object>(statement: { name: string; text: string }, values: unknown[]) {
        const found = await inner.query<T>(statement, values)
        rows.push(...found)
        return found
      },
    }
    await loadFacts(sql, posts, facts)
  })
  return { facts, rows }
}

const reply = (at: string, parent = post(1)): Judged => ({
  uri: `at://${BOB}/app.bsky.feed.post/${at}`, did: BOB, root: post(1), parent, quotes: post(1), at,
}) // prettier-ignore

/** One after the other, each two long; the nth begins at 2n. */
function versions(n: number, uri: string, key: string, fact: (i: number) => object | boolean): Past[] {
  return Array.from({ length: n }, (_, i) => ({ uri, key, since: time(2 * i), until: time(2 * i + 2), fact: fact(i) }))
}

test('of 2,000 past versions of a post and of its gates a reply loads one each, and of its mentions those of its author', async ({
  database,
}) => {
  await using db = poolOn(database)
  const dids = Array.from({ length: 50 }, (_, i) => `did:plc:${String(i).padStart(24, 'a')}`)
  const gate = `at://${ANN}/app.bsky.feed.threadgate/1`
  await remember(db, [
    ...versions(2_000, post(1), post(1), (i) => ({
      root: null,
      parent: null,
      mentions: i === 700 ? [...dids, BOB] : dids,
    })),
    ...versions(2_000, gate, threadGateKey(post(1)), (i) => ({ ...GATE, hiddenReplies: [post(i)] })),
    ...versions(2_000, `at://${BOB}/app.bsky.graph.follow/1`, followKey(BOB, ANN), () => true),
  ])
  const at = time(1_401)
  const { facts, rows } = await load(db, [reply(at)])
  expect(rows).toEqual([
    { key: post(1), since: time(1_400), until: time(1_402), fact: { root: null, parent: null } },
    {
      key: threadGateKey(post(1)),
      since: time(1_400),
      until: time(1_402),
      fact: { ...GATE, hiddenReplies: [post(700)] },
    },
    { key: followKey(BOB, ANN), since: time(1_400), until: time(1_402), fact: true },
    { uri: post(1), since: time(1_400), did: BOB },
  ])
  expect(facts.mentions(post(1), at)).toEqual(new Set([BOB]))
  const after = await load(db, [reply(time(4_000)), reply(time(5_000))])
  expect(after.rows).toEqual([])
})

test('many replies of one moment load what they share once', async ({ database }) => {
  await using db = poolOn(database)
  await remember(
    db,
    versions(2_000, post(1), post(1), () => ({ root: null, parent: null, mentions: [] })),
  )
  const { rows } = await load(
    db,
    Array.from({ length: 100 }, () => reply(time(1_401))),
  )
  expect(rows).toHaveLength(1)
  const other = await load(
    db,
    Array.from({ length: 100 }, (_, i) => reply(`${time(1_401)}${i}`)),
  )
  expect(other.rows).toHaveLength(1)
})

/** Spans in any order, of any length, overlapping; cut at gaps, as they are remembered. */
function madeUp(random: Random, uri: string, key: string, fact: () => object | boolean): Past[] {
  const gaps = Array.from({ length: random.below(4) }, () => random.below(100)).sort((a, b) => a - b)
  const taken = new Set(gaps)
  const spans = Array.from({ length: random.below(12) }, (): Past[] => {
    const since = random.below(100)
    if (taken.has(since)) return []
    taken.add(since)
    const until = Math.min(since + 1 + random.below(40), ...gaps.filter((gap) => gap > since))
    return [{ uri, key, since: time(since), until: time(until), fact: fact() }]
  })
  return [...gaps.map((gap) => ({ uri, key: 'gap', since: time(gap), until: time(gap), fact: null })), ...spans.flat()]
}

test.for([1, 2, 3, 4, 5])(
  'at any time what was loaded for it says what all would say (seed %i)',
  async (seed, { database }) => {
    await using db = poolOn(database)
    const random = new Random(seed)
    const names = Array.from({ length: 6 }, (_, i) => post(i + 1))
    const place = (): object => ({
      root: random.chance(0.3) ? null : random.pick(names),
      parent: random.chance(0.3) ? null : random.pick(names),
      mentions: random.chance(0.5) ? [BOB, ANN] : [ANN],
    })
    const follow = (n: number): string => `at://${BOB}/app.bsky.graph.follow/${n}`
    const item = (n: number): string => `at://${ANN}/app.bsky.graph.listitem/${n}`
    const all = [
      ...names.flatMap((uri) => madeUp(random, uri, uri, place)),
      ...madeUp(random, `at://${ANN}/app.bsky.feed.threadgate/1`, threadGateKey(post(1)), () => ({
        ...GATE,
        hiddenReplies: [post(random.below(9))],
      })),
      ...madeUp(random, `at://${ANN}/app.bsky.feed.postgate/1`, postGateKey(post(1)), () => ({
        closed: random.chance(0.5),
      })),
      ...[1, 2, 3].flatMap((n) => madeUp(random, follow(n), followKey(BOB, ANN), () => true)),
      ...[1, 2, 3].flatMap((n) => madeUp(random, item(n), listItemKey(LIST, BOB), () => true)),
    ]
    await remember(db, all)
    const whole = new LoadedFacts()
    for (const { key, ...span } of all) {
      if (key !== 'gap') whole.addSpan(key, span)
      const { mentions } = (span.fact ?? {}) as { mentions?: string[] }
      if (mentions) whole.addMentions(key, mentions, span.since)
    }
    const asked = Array.from({ length: 110 }, (_, n) => reply(time(n), random.pick(names)))
    const { facts } = await load(db, random.shuffled(asked))
    const says = (known: LoadedFacts): unknown[] =>
      asked.map(({ at, parent }) => {
        const { root, parent: above, invalidReplyRoot } = known.postAt(parent!, at) ?? {}
        const gate = known.threadGate(post(1), at)
        const relations = gate && [
          known.mentions(post(1), at).has(BOB),
          known.follows(BOB, ANN, at),
          known.inList(LIST, BOB, at),
        ]
        return { root, above, invalidReplyRoot, gate, closed: known.postGate(post(1), at), relations }
      })
    expect(says(facts)).toEqual(says(whole))
    expect(new Set(says(whole).map((said) => JSON.stringify(said))).size).toBeGreaterThan(10)
  },
)
