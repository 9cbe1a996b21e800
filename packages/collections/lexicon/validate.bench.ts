/**
 * The time to validate one record, next to the official libraries in the same run:
 * `node packages/collections/lexicon/validate.bench.ts`
 *
 * The official libraries get the record decoded, and decoding is not timed. Ours reads lexicon JSON. Each figure is the
 * best of many short rounds, and the candidates take turns, since other work disturbs a shared machine most of the
 * time. On 2 cores of a busy machine, Node 24.18, µs a record:
 *
 * | record                                  | sluice | @atproto/lex 0.3.12 | @atproto/lexicon 0.7.18 |
 * |-----------------------------------------|-------:|--------------------:|------------------------:|
 * | like                                    |   0.43 |                3.96 |                    5.43 |
 * | follow                                  |   0.17 |                0.86 |                    2.76 |
 * | reply                                   |   1.13 |                9.50 |                    9.66 |
 * | reply, 2 pictures, link                 |   4.18 |               13.65 |                   14.61 |
 * | post of 350 units of Japanese, refused  |   1.13 |               37.99 |                   35.07 |
 * | post of 340 units with 2 emoji          |   4.45 |               33.02 |                   30.37 |
 * | post of 340 units with 13 emoji         |  22.86 |               26.73 |                   26.99 |
 */
import { lexicons, jsonToLex as jsonToLexicon } from '@atproto/api'
import { jsonToLex, type JsonValue } from '@atproto/lex'
import { compileRecord } from './compile.ts'
import { officialChecks } from './testing/official.ts'
import { random } from './testing/random.ts'
import { rawCid, tid } from './testing/samples.ts'

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567'
/** Many different records, so that no cache or optimisation fits one record only. */
const RECORDS = 500
const ROUNDS = 60
const ROUND_MS = 4

const chance = random('bench')
const createdAt = (): string => new Date(1.7e12 + chance.below(1e9) * 10).toISOString()
const post = (): string => `at://did:plc:${chance.text(BASE32, 24)}/app.bsky.feed.post/${tid(chance)}`
const ref = (): object => ({ cid: `bafyreia${chance.text(BASE32, 50)}q`, uri: post() })
const reply = (): object => ({
  $type: 'app.bsky.feed.post',
  text: 'Hello, this is a reply with some text of the usual length, and so on.',
  langs: ['en'],
  reply: { root: ref(), parent: ref() },
  createdAt: createdAt(),
})
const picture = (): object => ({
  alt: 'a picture',
  image: { $type: 'blob', ref: { $link: rawCid(chance) }, mimeType: 'image/jpeg', size: 1 + chance.below(1e6) },
  aspectRatio: { width: 1_600, height: 900 },
})

const KINDS: readonly (readonly [name: string, make: () => object])[] = [
  ['like', () => ({ $type: 'app.bsky.feed.like', subject: ref(), createdAt: createdAt() })],
  [
    'follow',
    () => ({ $type: 'app.bsky.graph.follow', subject: `did:plc:${chance.text(BASE32, 24)}`, createdAt: createdAt() }),
  ],
  ['reply', reply],
  [
    'reply, 2 pictures, link',
    () => ({
      ...reply(),
      facets: [
        {
          index: { byteStart: 0, byteEnd: 5 },
          features: [{ $type: 'app.bsky.richtext.facet#link', uri: 'https://example.com/page' }],
        },
      ],
      embed: { $type: 'app.bsky.embed.images', images: [picture(), picture()] },
    }),
  ],
  ['post of 350 units of Japanese, refused', () => ({ ...reply(), text: 'これは日本語の文です。'.repeat(32) })],
  ['post of 340 units with 2 emoji', () => ({ ...reply(), text: `${'so nice and long '.repeat(20)}👩‍👩‍👧‍👦 to 👍🏽` })],
  ['post of 340 units with 13 emoji', () => ({ ...reply(), text: 'so nice 👩‍👩‍👧‍👦 is long'.repeat(13) })],
]

interface Runner {
  name: string
  bestNs: number
  /** Whether the record is accepted. */
  run(record: number): boolean
}

const officials = await officialChecks()

function runnersOf(make: () => object): Runner[] {
  const records = Array.from({ length: RECORDS }, () => JSON.parse(JSON.stringify(make())) as JsonValue)
  const nsid = (records[0] as { $type: string }).$type
  const ours = compileRecord(nsid)
  const official = officials.get(nsid)!
  const decoded = records.map((record) => jsonToLex(record))
  const lexiconValues = records.map((record) => jsonToLexicon(record as never))
  const runner = (name: string, run: (record: number) => boolean): Runner => ({ name, run, bestNs: Infinity })
  return [
    runner('sluice', (i) => ours.validate(records[i]) === undefined),
    runner('@atproto/lex', (i) => succeeds(() => official(decoded[i]))),
    runner('@atproto/lexicon', (i) => lexicons.validate(nsid, lexiconValues[i]).success),
  ]
}

function succeeds(check: () => void): boolean {
  try {
    check()
    return true
  } catch {
    return false
  }
}

function round(runner: Runner): void {
  const started = process.hrtime.bigint()
  let elapsed = 0
  let count = 0
  while (elapsed < ROUND_MS * 1e6) {
    for (let i = 0; i < RECORDS; i++) runner.run(i)
    count += RECORDS
    elapsed = Number(process.hrtime.bigint() - started)
  }
  runner.bestNs = Math.min(runner.bestNs, elapsed / count)
}

for (const [name, make] of KINDS) {
  const runners = runnersOf(make)
  const verdicts = new Set(runners.map((runner) => runner.run(0)))
  if (verdicts.size > 1) throw new Error(`${name}: the verdicts differ`)
  for (let i = 0; i < ROUNDS; i++) for (const runner of runners) round(runner)
  const figures = runners.map(
    ({ name, bestNs }) => `${name} ${(bestNs / 1_000).toFixed(2)} µs ×${(bestNs / runners[0]!.bestNs).toFixed(1)}`,
  )
  console.log(`${name.padEnd(40)} ${figures.join('   ')}`)
}
