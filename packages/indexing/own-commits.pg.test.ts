/**
 * C1, C5: a follow or a list item that an export brings counts from its own commit on as soon as both are there,
 * whatever comes before it, after it, or with it. Other lives: LIVES='cat bob r e x,bob x bob= e x'.
 */
import { pathOf, SEQ_BACKFILL, uriOf, type CreateEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { indexOn } from './testing/index-on.ts'
import { Story } from './testing/story.ts'

const GATE = 'app.bsky.feed.threadgate'
const KINDS = ['follow', 'list item'] as const

/**
 * What one path becomes: it names Bob or Cat, as a record of its own each time (`bob`) or as the record that named them
 * before (`bob=`); x: it is deleted; e: an export has it as it is; r: another part of the next export, which says
 * nothing of the path.
 */
const LIVES = {
  'lets in by its own commits while it is there': [
    'cat bob e',
    'cat bob e cat',
    'cat bob e e',
    'bob x bob= e',
    'bob cat bob= e',
    'bob cat bob e',
    'cat bob r e',
  ],
  'lets in by its own commits, though it has ended': [
    'cat bob e x',
    'cat bob e e x',
    'bob x bob= x',
    'cat bob r e x',
    'bob cat bob= e x',
    'bob x bob= e x',
  ],
  ...(process.env.LIVES && { 'lets in by its own commits, chosen': process.env.LIVES.split(',') }),
}

/** Every order of so many things. */
function orders(count: number): number[][] {
  if (count === 0) return [[]]
  return orders(count - 1).flatMap((order) =>
    Array.from({ length: count }, (_, at) => order.toSpliced(at, 0, count - 1)),
  )
}

interface Scene {
  first: StreamEvent[]
  /** What comes together: a step of the life each. */
  steps: StreamEvent[][]
  /** A reply by Bob after each step of the life, and whether the path named him then. */
  replies: { event: CreateEvent; isAllowed: boolean }[]
}

function tell(story: Story, kind: (typeof KINDS)[number], life: string, n: number): Scene {
  const [ann, bob, cat] = ['ann', 'bob', 'cat'].map((name) => `${name}${n}x`) as [string, string, string]
  const root = story.post(ann, 'root')
  const list = story.put(ann, 'app.bsky.graph.list', { name: 'friends', purpose: 'app.bsky.graph.defs#curatelist' })
  const rule = kind === 'follow' ? { $type: `${GATE}#followingRule` } : { $type: `${GATE}#listRule`, list: uriOf(list) }
  const gate = story.put(ann, GATE, { post: uriOf(root), allow: [rule] }, root.rkey)
  const [collection, more] =
    kind === 'follow' ? ['app.bsky.graph.follow', {}] : ['app.bsky.graph.listitem', { list: uriOf(list) }]
  const made: CreateEvent[] = []
  const steps: StreamEvent[][] = []
  const replies: Scene['replies'] = []
  let head: CreateEvent | undefined
  let named = ''
  for (const step of life.split(' ')) {
    const at = made[0]
    if (step === 'r') steps.push([partOf((head = story.post(ann, 'the head')), ['', 'a'], [])])
    else if (step === 'e') {
      steps.push(exportOf(made.at(-1)!, head ?? story.post(ann, 'the head')))
      head = undefined
    } else if (step === 'x') steps.push([story.delete(at!)])
    else {
      const before = step.endsWith('=') ? at : undefined
      const subject = story.did(step.startsWith('bob') ? bob : cat)
      const event = story.put(ann, collection, before?.record ?? { ...more, subject }, at?.rkey)
      made.push(before ? { ...event, cid: before.cid } : event)
      steps.push([made.at(-1)!])
    }
    if (step !== 'e' && step !== 'r') named = step
    replies.push({ event: story.reply(bob, root), isAllowed: named.startsWith('bob') })
  }
  return { first: [root, list, gate], steps, replies }
}

/** That path of a repository, with this head. */
function exportOf(made: CreateEvent, head: CreateEvent): StreamEvent[] {
  const path = pathOf(made)
  const { time, commit, rev } = head
  return [partOf(head, [path, `${path}~`], [path]), { ...made, seq: SEQ_BACKFILL, time, commit, rev }]
}

/** A key range of the repository with this head. */
function partOf({ time, did, commit, rev }: CreateEvent, range: [string, string], keys: string[]): StreamEvent {
  return { type: 'repo', time, did, commit, rev, range, keys }
}

/** Which step comes in which batch: in each order each alone, and some of them together. */
function batchesOf(life: string): number[][][] {
  return orders(life.split(' ').length).flatMap((order, nth) => {
    const cut = 1 + (nth % order.length)
    return [order.map((step) => [step]), [order.slice(0, cut), order.slice(cut)].filter(({ length }) => length > 0)]
  })
}

async function verdictsOf({ db }: Index): Promise<ReadonlyMap<string, boolean>> {
  const { rows } = await db.query<{ uri: string; isAllowed: boolean }>(
    `select uri, "violatesThreadGate" is not true as "isAllowed" from post where "replyRoot" is not null`,
  )
  return new Map(rows.map(({ uri, isAllowed }) => [uri, isAllowed]))
}

test.for(
  KINDS.flatMap((kind) =>
    Object.entries(LIVES).flatMap(([which, lives]) =>
      (['first', 'in the middle', 'last'] as const).map((when) => [kind, which, when, lives] as const),
    ),
  ),
)(
  'C1, C5 a %s %s, in every order of these and its exports (replies come %s)',
  { timeout: 300_000 },
  async ([kind, , when, lives], { database }) => {
    const story = new Story()
    const scenes = lives
      .flatMap((life) => batchesOf(life).map((batches) => ({ life, batches })))
      .map(({ life, batches }, n) => ({ ...tell(story, kind, life, n), life, batches }))
    const most = Math.max(...scenes.map(({ batches }) => batches.length))
    const place = { first: 0, 'in the middle': 2, last: most }[when]
    await using index = indexOn(database)
    await applyBatch(
      index,
      scenes.flatMap(({ first }) => first),
    )
    for (let at = 0; at <= most; at++) {
      if (at === place)
        await applyBatch(
          index,
          scenes.flatMap(({ replies }) => replies.map(({ event }) => event)),
        )
      await applyBatch(
        index,
        scenes.flatMap(({ batches, steps }) => (batches[at] ?? []).flatMap((step) => steps[step]!)),
      )
    }
    const verdicts = await verdictsOf(index)
    const wrong = scenes.flatMap(({ life, batches, replies }) =>
      replies.flatMap(({ event, isAllowed }, after) =>
        verdicts.get(uriOf(event)) === isAllowed
          ? []
          : [
              `${life}, in batches ${batches.join(' | ')}: the reply after step ${after} is to be ${isAllowed ? 'in' : 'out'}`,
            ],
      ),
    )
    expect(wrong).toEqual([])
  },
)
