/**
 * C1, C6: what an export does not have, or has otherwise, had ended by then, for the replies of that time too, though
 * something newer came first.
 */
import { pathOf, SEQ_BACKFILL, uriOf, type CreateEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch } from './apply-batch.ts'
import { indexOn } from './testing/index-on.ts'
import { Story } from './testing/story.ts'

/** Every order of so many things. */
function orders(count: number): number[][] {
  if (count === 0) return [[]]
  return orders(count - 1).flatMap((order) =>
    Array.from({ length: count }, (_, at) => order.toSpliced(at, 0, count - 1)),
  )
}

interface Case {
  first: StreamEvent[]
  /** A first version, an export, another version, and a reply after one of these; what comes together. */
  events: StreamEvent[][]
  reply: string
  told: { what: string; repliedAfter: number; isFine: boolean }
}

/**
 * What the export has: nothing, or something else. By the version after which it was written, whether a reply is fine.
 */
const WHAT: Record<string, boolean[]> = {
  'a gate that is gone': [false, true, false],
  'a gate that says something else': [false, true, false],
  'what it answers, that is gone': [true, false, false],
  'what it answers, that says something else': [true, false, true],
}

function tell(story: Story, what: string, repliedAfter: number, n: string): Case {
  const [ann, cat, bob] = ['ann', 'cat', 'bob'].map((name) => `${name}${n}x`) as [string, string, string]
  const [isGate, isGone] = [what.startsWith('a gate'), what.endsWith('gone')]
  const root = story.post(ann, 'root')
  const closed = { post: uriOf(root), allow: [] }
  const first = isGate
    ? story.put(ann, 'app.bsky.feed.threadgate', closed, root.rkey)
    : story.reply(cat, root, {}, root.rkey)
  const parent = isGate ? root : first
  const anew = (record: object): CreateEvent => story.put(isGate ? ann : cat, first.collection, record, first.rkey)
  const { createdAt } = first.record
  const steps: (() => StreamEvent[])[] = [
    () => [first],
    () => {
      const open = isGate ? { post: uriOf(root), createdAt } : { text: 'of its own', createdAt }
      return exportOf(isGone ? undefined : anew(open), first, story.post(isGate ? ann : cat, 'the head'))
    },
    () => [anew(isGate || !isGone ? first.record : { text: 'of its own' })],
  ]
  const events: StreamEvent[][] = []
  let reply: CreateEvent | undefined
  for (const [i, step] of steps.entries()) {
    events.push(step())
    if (i === repliedAfter) reply = story.reply(bob, parent)
  }
  const told = { what, repliedAfter, isFine: WHAT[what]![repliedAfter]! }
  return { first: [root], events: [...events, [reply!]], reply: uriOf(reply!), told }
}

/** The path of that record in a repository with this head. */
function exportOf(made: CreateEvent | undefined, at: CreateEvent, head: CreateEvent): StreamEvent[] {
  const { time, did, commit, rev } = head
  const range: [string, string] = [pathOf(at), `${pathOf(at)}~`]
  const known: StreamEvent = { type: 'repo', time, did, commit, rev, range, keys: made ? [pathOf(at)] : [] }
  return made ? [{ ...made, seq: SEQ_BACKFILL, time, commit, rev }, known] : [known]
}

test.for([1, 2, 4])(
  'a reply goes by what was there when it was written, of which only an export tells, in every order, %i at a time',
  async (together, { database }) => {
    const story = new Story()
    const cases = Object.keys(WHAT)
      .flatMap((what) => [0, 1, 2].flatMap((repliedAfter) => orders(4).map((order) => ({ what, repliedAfter, order }))))
      .map(({ what, repliedAfter, order }, n) => ({ ...tell(story, what, repliedAfter, String(n)), order }))
    await using index = indexOn(database)
    await applyBatch(
      index,
      cases.flatMap(({ first }) => first),
    )
    for (let at = 0; at < 4; at += together) {
      await applyBatch(
        index,
        cases.flatMap(({ order, events }) => order.slice(at, at + together).flatMap((i) => events[i]!)),
      )
    }
    const { rows } = await index.db.query<{ uri: string; isFine: boolean }>(
      `select uri, ("invalidReplyRoot" or "violatesThreadGate") is not true as "isFine" from post where uri = any($1)`,
      [cases.map(({ reply }) => reply)],
    )
    const fine = new Map(rows.map(({ uri, isFine }) => [uri, isFine]))
    expect(fine.size).toBe(cases.length)
    const wrong = cases.filter(({ reply, told }) => fine.get(reply) !== told.isFine)
    expect(wrong.map(({ told, order }) => ({ ...told, order: order.join(' ') }))).toEqual([])
  },
)
