/**
 * C1, C5: a follow or a list item that is edited to name somebody else lets replies through a gate while it names their
 * author, whatever arrives first, with its own commit or with an export.
 */
import { pathOf, SEQ_BACKFILL, uriOf, type CreateEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { applyBatch } from './apply-batch.ts'
import { indexOn } from './testing/index-on.ts'
import { Story } from './testing/story.ts'

/** Whom its versions name one after the other; null: it is deleted. */
const LIVES = [
  ['bob', 'cat', 'dan'],
  ['bob', 'cat', 'bob'],
  ['cat', 'bob', 'dan'],
  ['bob', 'cat', null],
  ['cat', 'bob', null],
  ['bob', null, 'cat'],
]
/** Of those with a star it is an export that tells; of a star alone, that it is not there. */
const EXPORTED = [
  ['bob', 'cat*', 'dan'],
  ['cat', 'bob*', 'dan'],
  ['bob', 'bob*', 'dan'],
  ['cat', 'dan*', 'bob'],
  ['bob*', 'cat', 'dan'],
  ['bob', 'cat', 'dan*'],
  ['bob', 'cat*', null],
  ['bob', null, 'cat*'],
  ['bob*', 'cat*', 'dan'],
  ['cat*', 'bob*', 'dan'],
  ['bob', '*', 'dan'],
  ['cat', '*', 'bob'],
  ['cat*', '*', 'bob'],
]
const KINDS = ['follow', 'list item'] as const

/** Every order of so many things. */
function orders(count: number): number[][] {
  if (count === 0) return [[]]
  return orders(count - 1).flatMap((order) =>
    Array.from({ length: count }, (_, at) => order.toSpliced(at, 0, count - 1)),
  )
}

interface Case {
  first: CreateEvent[]
  /** Its versions, and last the reply; what comes together. */
  events: StreamEvent[][]
  reply: string
  told: { life: string; repliedAfter: number; isAllowed: boolean }
}

/** A gated post by somebody, what its gate goes by, and a reply by bob after the version of that number. */
function tell(
  story: Story,
  kind: (typeof KINDS)[number],
  life: (string | null)[],
  repliedAfter: number,
  n: string,
): Case {
  const [ann, did] = [`ann${n}x`, (name: string): string => story.did(`${name}${n}x`)]
  const root = story.post(ann, 'root')
  const list = story.put(ann, 'app.bsky.graph.list', { name: 'friends', purpose: 'app.bsky.graph.defs#curatelist' })
  const rule =
    kind === 'follow'
      ? { $type: 'app.bsky.feed.threadgate#followingRule' }
      : { $type: 'app.bsky.feed.threadgate#listRule', list: uriOf(list) }
  const gate = story.put(ann, 'app.bsky.feed.threadgate', { post: uriOf(root), allow: [rule] }, root.rkey)
  const [collection, more] =
    kind === 'follow' ? ['app.bsky.graph.follow', {}] : ['app.bsky.graph.listitem', { list: uriOf(list) }]
  const events: StreamEvent[][] = []
  let made: CreateEvent | undefined
  let reply: CreateEvent | undefined
  for (const [i, name] of life.entries()) {
    if (name === null) events.push([story.delete(made!)])
    else if (name === '*') events.push(exportOf(made!, story.post(ann, 'the head'), false))
    else {
      made = story.put(ann, collection, { subject: did(name.replace('*', '')), ...more }, made?.rkey)
      events.push(name.endsWith('*') ? exportOf(made, story.post(ann, 'the head')) : [made])
    }
    if (i === repliedAfter) reply = story.reply(`bob${n}x`, root)
  }
  const told = { life: `${kind} ${life.join(' ')}`, repliedAfter, isAllowed: lets(life, repliedAfter) }
  return { first: [root, list, gate], events: [...events, [reply!]], reply: uriOf(reply!), told }
}

/** That path of a repository, with this head. */
function exportOf(made: CreateEvent, { time, did, commit, rev }: CreateEvent, isThere = true): StreamEvent[] {
  const path = pathOf(made)
  const range: [string, string] = [path, `${path}~`]
  const create: CreateEvent = { ...made, seq: SEQ_BACKFILL, time, commit, rev }
  const known: StreamEvent = { type: 'repo', time, did, commit, rev, range, keys: isThere ? [path] : [] }
  return isThere ? [create, known] : [known]
}

/**
 * Whom it named then; and whom an export says that it named later, since the export does not say from when on, and the
 * record says from its first version on.
 */
function lets(life: (string | null)[], repliedAfter: number): boolean {
  return life[repliedAfter]?.replace('*', '') === 'bob' || life.slice(repliedAfter).includes('bob*')
}

test.for([
  ['each alone', LIVES],
  ['some together', LIVES],
  ['each alone, some in exports', EXPORTED],
  ['some together, some in exports', EXPORTED],
] as const)(
  'C1 a reply goes by whom a follow or a list item named when it was written, in every order of its versions and the reply, %s',
  async ([how, lives], { database }) => {
    const story = new Story()
    const random = new Random(1)
    const cases = KINDS.flatMap((kind) =>
      lives.flatMap((life) =>
        life.flatMap((_, repliedAfter) =>
          orders(life.length + 1).map((order) => ({ kind, life, repliedAfter, order })),
        ),
      ),
    ).map(({ kind, life, repliedAfter, order }, n) => {
      const one = tell(story, kind, life, repliedAfter, String(n))
      // Which batch each comes with.
      let batch = 0
      const batches = order.map(() => (how.startsWith('each alone') || random.chance(0.5) ? batch++ : batch))
      return { ...one, order, comes: order.map((i, at) => ({ events: one.events[i]!, batch: batches[at]! })) }
    })
    await using index = indexOn(database)
    await applyBatch(
      index,
      cases.flatMap(({ first }) => first),
    )
    for (let batch = 0; batch <= 4; batch++) {
      const events = cases.flatMap(({ comes }) =>
        comes.filter((each) => each.batch === batch).flatMap((each) => each.events),
      )
      await applyBatch(index, events)
    }
    const { rows } = await index.db.query<{ uri: string; violates: boolean | null }>(
      'select uri, "violatesThreadGate" as violates from post where uri = any($1)',
      [cases.map(({ reply }) => reply)],
    )
    const violating = new Map(rows.map(({ uri, violates }) => [uri, violates]))
    expect(violating.size).toBe(cases.length)
    const wrong = cases.filter(({ reply, told }) => (violating.get(reply) === true) === told.isAllowed)
    expect(wrong.map(({ told, order }) => ({ ...told, order: order.join(' ') }))).toEqual([])
    expect(cases.filter(({ told }) => told.isAllowed).length).toBeGreaterThan(100)
  },
)

test('C5 of what an older build remembered it is not known when it began, and a late version does not end it', async ({
  database,
}) => {
  const story = new Story()
  const made = story.put('ann', 'app.bsky.graph.follow', { subject: story.did('cat') })
  const late = story.put('ann', 'app.bsky.graph.follow', { subject: story.did('dan') }, made.rkey)
  const ended = story.delete(made)
  await using index = indexOn(database)
  await applyBatch(index, [ended])
  const fact = [uriOf(made), made.did, `follow ${made.did} ${story.did('bob')}`, made.rkey, ended.rev]
  await index.db.query(
    `insert into past_fact (uri, did, key, since, until, fact) values ($1, $2, $3, $4, $5, 'true')`,
    fact,
  )
  await applyBatch(index, [late])
  const { rows } = await index.db.query('select since, until from past_fact where uri = $1 order by since', [fact[0]])
  expect(rows).toEqual([
    { since: made.rkey, until: ended.rev },
    { since: late.rev, until: ended.rev },
  ])
})
