/** C1, C5: a follow or a list item that is edited to name somebody else lets replies through a gate while it names their author, whatever arrives first. */
import { uriOf, type CreateEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
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
  /** Its versions, and last the reply. */
  events: StreamEvent[]
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
  const events: StreamEvent[] = []
  let made: CreateEvent | undefined
  let reply: CreateEvent | undefined
  for (const [i, name] of life.entries()) {
    if (name === null) events.push(story.delete(made!))
    else events.push((made = story.put(ann, collection, { subject: did(name), ...more }, made?.rkey)))
    if (i === repliedAfter) reply = story.reply(`bob${n}x`, root)
  }
  const told = { life: `${kind} ${life.join(' ')}`, repliedAfter, isAllowed: life[repliedAfter] === 'bob' }
  return { first: [root, list, gate], events: [...events, reply!], reply: uriOf(reply!), told }
}

test.for(['each alone', 'some together'])(
  'C1 a reply goes by whom a follow or a list item named when it was written, in every order of its versions and the reply, %s',
  async (how, { database }) => {
    const story = new Story()
    const random = new Random(1)
    const cases = KINDS.flatMap((kind) =>
      LIVES.flatMap((life) =>
        life.flatMap((_, repliedAfter) =>
          orders(life.length + 1).map((order) => ({ kind, life, repliedAfter, order })),
        ),
      ),
    ).map(({ kind, life, repliedAfter, order }, n) => {
      const one = tell(story, kind, life, repliedAfter, String(n))
      // Which batch each comes with.
      let batch = 0
      const batches = order.map(() => (how === 'each alone' || random.chance(0.5) ? batch++ : batch))
      return { ...one, order, comes: order.map((i, at) => ({ event: one.events[i]!, batch: batches[at]! })) }
    })
    await using index = indexOn(database)
    await applyBatch(
      index,
      cases.flatMap(({ first }) => first),
    )
    for (let batch = 0; batch <= 4; batch++) {
      const events = cases.flatMap(({ comes }) =>
        comes.filter((each) => each.batch === batch).map(({ event }) => event),
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
