/**
 * C1, C5: what an export only repeats went on beyond it, for the replies of that time too, whatever comes again and
 * however late the export comes.
 */
import { pathOf, SEQ_BACKFILL, uriOf, type CreateEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch } from './apply-batch.ts'
import { indexOn } from './testing/index-on.ts'
import { ref, Story } from './testing/story.ts'

const KINDS = ['what is answered', 'a gate', 'a gate dated anew', 'a follow'] as const
type Kind = (typeof KINDS)[number]

/**
 * What one path becomes: A, which says the same each time it is written; B, which says something else; x: it is
 * deleted; e: an export has it as it is, or does not have it.
 */
const LIVES = ['A e A', 'A e x', 'A e B', 'A e x A', 'A x A e x', 'A x A e B', 'A e B e x']

interface Scene {
  first: StreamEvent[]
  /** A step of the life each, and last the reply; what comes together. */
  steps: StreamEvent[][]
  reply: string
  told: { kind: Kind; life: string; repliedAfter: number; isFine: boolean }
}

/**
 * A life, and a reply after that step of it. It is fine while a gate does not say A, or what it answers or a follow
 * that lets its author in does.
 */
function tell(story: Story, kind: Kind, life: string, repliedAfter: number, n: number): Scene {
  const [ann, cat, bob] = ['ann', 'cat', 'bob'].map((name) => `${name}${n}x`) as [string, string, string]
  const isGate = kind.startsWith('a gate')
  const root = story.post(ann, 'root')
  const rule = { post: uriOf(root), allow: [{ $type: `${GATE}#followingRule` }] }
  const first = kind === 'a follow' ? [root, story.put(ann, GATE, rule, root.rkey)] : [root]
  const key = isGate ? root.rkey : story.post('somebody', 'whose key is of this time').rkey
  const put = (says: string, made: CreateEvent | undefined): CreateEvent => {
    if (kind === 'a follow')
      return story.put(ann, 'app.bsky.graph.follow', { subject: story.did(says === 'A' ? bob : cat) }, key)
    if (isGate) {
      const dated = kind === 'a gate' && made ? { createdAt: made.record.createdAt } : {}
      return story.put(ann, GATE, { post: uriOf(root), allow: says === 'A' ? [] : undefined, ...dated }, key)
    }
    return says === 'A' ? story.reply(cat, root, {}, key) : story.put(cat, POST, { text: 'of its own' }, key)
  }
  const steps: StreamEvent[][] = []
  let [made, living, isFine]: [CreateEvent | undefined, CreateEvent | undefined, boolean] = [undefined, undefined, true]
  let reply: CreateEvent | undefined
  let said = ''
  for (const [i, step] of life.split(' ').entries()) {
    if (step === 'e')
      steps.push(exportOf(living, made!, story.post(kind === 'what is answered' ? cat : ann, 'the head')))
    else if (step === 'x') steps.push([story.delete(made!)])
    else steps.push([(made = put(step, made))])
    if (step !== 'e') [said, living] = [step, step === 'x' ? undefined : made]
    if (i !== repliedAfter) continue
    isFine = isGate ? said !== 'A' : (kind === 'a follow' ? said : saidFrom(life, i)) === 'A'
    reply = story.put(bob, POST, {
      text: 'a reply',
      reply: { root: ref(root), parent: ref(kind === 'what is answered' ? made! : root) },
    })
  }
  return { first, steps: [...steps, [reply!]], reply: uriOf(reply!), told: { kind, life, repliedAfter, isFine } }
}

/** What a post says that is answered after that step: what it said then, or says first after that. */
function saidFrom(life: string, step: number): string | undefined {
  const all = life.split(' ').map((_, i, steps) => steps.slice(0, i + 1).findLast((each) => each !== 'e'))
  return all.slice(step).find((said) => said !== 'x')
}

const GATE = 'app.bsky.feed.threadgate'
const POST = 'app.bsky.feed.post'

/** The path of `at` in a repository with this head, where it lives or not. */
function exportOf(living: CreateEvent | undefined, at: CreateEvent, head: CreateEvent): StreamEvent[] {
  const { time, did, commit, rev } = head
  const range: [string, string] = [pathOf(at), `${pathOf(at)}~`]
  const known: StreamEvent = { type: 'repo', time, did, commit, rev, range, keys: living ? [pathOf(at)] : [] }
  return living ? [{ ...living, seq: SEQ_BACKFILL, time, commit, rev }, known] : [known]
}

/** The natural order, with the reply in its place or last; in each one of the steps once more, at every later place. */
function redelivered(count: number, repliedAfter: number): number[][] {
  const life = Array.from({ length: count }, (_, i) => i)
  return [life.toSpliced(repliedAfter + 1, 0, count), [...life, count]].flatMap((order) =>
    order.flatMap((step, at) => order.slice(at).map((_, later) => order.toSpliced(at + later + 1, 0, step))),
  )
}

/** The natural order, but that the export comes later, at every place. */
function late(life: string, repliedAfter: number): number[][] {
  const count = life.split(' ').length
  const order = Array.from({ length: count }, (_, i) => i).toSpliced(repliedAfter + 1, 0, count)
  const at = order.indexOf(life.split(' ').indexOf('e'))
  return order.slice(at + 1).map((_, later) => order.toSpliced(at, 1).toSpliced(at + later + 1, 0, order[at]!))
}

const ORDERS: Record<string, (life: string, repliedAfter: number) => number[][]> = {
  'something comes again': (life, repliedAfter) => redelivered(life.split(' ').length, repliedAfter),
  'the export comes late': late,
}

test.for(Object.keys(ORDERS))(
  'a reply goes by what was there when it was written, though %s',
  async (what, { database }) => {
    const story = new Story()
    const told = KINDS.flatMap((kind) =>
      LIVES.flatMap((life) =>
        life
          .split(' ')
          .flatMap((_, repliedAfter) =>
            ORDERS[what]!(life, repliedAfter).map((order) => ({ kind, life, repliedAfter, order })),
          ),
      ),
    )
    const scenes = told.map(({ kind, life, repliedAfter, order }, n) => ({
      ...tell(story, kind, life, repliedAfter, n),
      order,
    }))
    await using index = indexOn(database)
    await applyBatch(
      index,
      scenes.flatMap(({ first }) => first),
    )
    for (let at = 0; at < Math.max(...scenes.map(({ order }) => order.length)); at++) {
      await applyBatch(
        index,
        scenes.flatMap(({ order, steps }) => (at < order.length ? steps[order[at]!]! : [])),
      )
    }
    const { rows } = await index.db.query<{ uri: string; isFine: boolean }>(
      `select uri, ("invalidReplyRoot" or "violatesThreadGate") is not true as "isFine" from post where uri = any($1)`,
      [scenes.map(({ reply }) => reply)],
    )
    const fine = new Map(rows.map(({ uri, isFine }) => [uri, isFine]))
    expect(fine.size).toBe(scenes.length)
    const wrong = scenes.filter(({ reply, told }) => fine.get(reply) !== told.isFine)
    expect(wrong.map(({ told, order }) => ({ ...told, order: order.join(' ') }))).toEqual([])
  },
)
