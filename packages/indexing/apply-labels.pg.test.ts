/**
 * A5: random histories of labels, in any order, in any batches, delivered again, end as a model that sees them one by
 * one.
 */
import { DatabasePool } from '@sluice/database/pool.ts'
import type { Label, LabelStreamEvent } from '@sluice/events/label-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { describe } from 'vitest'
import { applyLabels } from './apply-labels.ts'

const SEEDS = process.env.SEEDS ? process.env.SEEDS.split(',').map(Number) : [1, 2, 3]
const LABELS = Number(process.env.EVENTS ?? 600)

const SOURCES = ['did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', 'did:web:labels.example.com']
const SUBJECTS = [
  'did:plc:bbbbbbbbbbbbbbbbbbbbbbbb',
  'at://did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/app.bsky.feed.post/3kabc',
  'at://did:plc:cccccccccccccccccccccccc/app.bsky.feed.post/3kabd',
]

/** Few keys and few times, so that labels meet, and meet at the same moment. */
function labels(random: Random): Label[] {
  const day = (): string => new Date(Date.parse('2026-06-01') + random.below(40) * 3_600_000).toISOString()
  return Array.from({ length: LABELS }, () => ({
    src: random.pick(SOURCES),
    uri: random.pick(SUBJECTS),
    val: random.pick(['spam', 'porn', '!hide']),
    cts: day(),
    ...(random.chance(0.3) && { cid: 'bafyreia3zfeudwuou7cvli7rniafg4gy4dzz7ego2iyphmnno6m6v5cgga' }),
    ...(random.chance(0.4) && { neg: true }),
    ...(random.chance(0.2) && { neg: false }),
    ...(random.chance(0.3) && { exp: day() }),
  }))
}

/** In the order in which they were made, the last one stands. */
function model(made: readonly Label[]): Record<string, object> {
  const byTime = [...made].sort((a, b) => (rank(a) < rank(b) ? -1 : 1))
  const rows = byTime.map(({ src, uri, cid = '', val, neg = false, cts, exp = null }) => {
    return [`${src} ${uri} ${cid} ${val}`, { src, uri, cid, val, neg, cts, exp }] as const
  })
  return Object.fromEntries(rows)
}

/** A negation comes after what it negates, and what holds for ever outlasts what does not. */
function rank({ cts, neg, exp }: Label): string {
  return `${cts} ${neg === true ? 1 : 0} ${exp ?? 'for ever'}`
}

async function stored(db: DatabasePool): Promise<Record<string, object>> {
  const { rows } = await db.query<Record<string, string>>('select src, uri, cid, val, neg, cts, exp from label')
  return Object.fromEntries(rows.map((row) => [`${row.src} ${row.uri} ${row.cid} ${row.val}`, row]))
}

describe.each(SEEDS)('seed %i', (seed) => {
  test('A5 the last one of each stands, negations and expiry with it, in any order and by three appliers', async ({
    database,
  }) => {
    const random = new Random(seed)
    const made = labels(random)
    await using db = new DatabasePool({ url: database, schema: 'bsky', size: 4, role: 'test' })
    const again = made.filter(() => random.chance(0.3))
    const delivered = random.shuffled([...made, ...again]).map((label): LabelStreamEvent => ({ type: 'label', label }))
    await Promise.all(
      [0, 1, 2].map(async (lane) => {
        const own = delivered.filter((_, i) => i % 3 === lane)
        for (let at = 0; at < own.length;) {
          const size = 1 + random.below(50)
          await applyLabels(db, own.slice(at, at + size))
          at += size
        }
      }),
    )
    const wanted = model(made)
    expect(Object.values(wanted).filter((row) => 'neg' in row && row.neg === true).length).toBeGreaterThan(3)
    expect(await stored(db)).toEqual(wanted)
    expect(await applyLabels(db, delivered)).toEqual({ changed: 0 })
  })
})

test('A5 what the AppView reads: a negated label stays as a row that says so, an expired one keeps its end', async ({
  database,
}) => {
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 2, role: 'test' })
  const label: Label = { src: SOURCES[0]!, uri: SUBJECTS[0]!, val: 'spam', cts: '2026-06-01T00:00:00Z' }
  const negation: Label = { ...label, neg: true, cts: '2026-06-02T00:00:00.000Z' }
  const other: Label = { ...label, val: 'rude', exp: '2026-06-03T00:00:00Z' }
  for (const each of [negation, other, label]) await applyLabels(db, [{ type: 'label', label: each }])
  const { rows } = await db.query('select val, neg, cts, exp, cid from label order by val')
  expect(rows).toEqual([
    { val: 'rude', neg: false, cts: '2026-06-01T00:00:00.000Z', exp: '2026-06-03T00:00:00.000Z', cid: '' },
    { val: 'spam', neg: true, cts: '2026-06-02T00:00:00.000Z', exp: null, cid: '' },
  ])
})

test('A5 the AppView can read the end of every label, whatever its labeler wrote there', async ({ database }) => {
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 2, role: 'test' })
  const ends = [
    '0000-01-01T00:00:00.000Z',
    '0000-12-31T23:59:59+00:00',
    '',
    'infinity',
    '9999-12-31T23:59:59Z',
    undefined,
  ]
  for (const [n, exp] of ends.entries()) {
    const label: Label = { src: SOURCES[0]!, uri: SUBJECTS[0]!, val: `v${n}`, cts: '2026-06-01T00:00:00Z' }
    await applyLabels(db, [{ type: 'label', label: { ...label, ...(exp !== undefined && { exp }) } }])
  }
  // As `getLabels` of the AppView asks.
  const inForce = 'select val from label where exp is null or exp::timestamp > now() order by val'
  expect((await db.query<{ val: string }>(inForce)).rows.map(({ val }) => val)).toEqual(['v4', 'v5'])
})
