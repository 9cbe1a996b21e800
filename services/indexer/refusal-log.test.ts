import { createLogger } from '@sluice/runtime/log.ts'
import { expect, test } from 'vitest'
import { RefusalLog } from './refusal-log.ts'

function logged() {
  const lines: Record<string, unknown>[] = []
  const write = (line: string): void => void lines.push(JSON.parse(line) as Record<string, unknown>)
  const log = createLogger({ role: 'indexer', build: 'test', destination: { write } })
  return { lines, refusals: new RefusalLog(log) }
}

const letter = (i: number, fields: Record<string, string>) => ({
  entryId: `${i}-0`,
  fields,
  message: `value too long: ${i}`,
})

test('10,000 dead letters are one line: how many for each reason, and of each one sample that can be looked up', () => {
  const { lines, refusals } = logged()
  for (let i = 0; i < 10_000; i++) {
    const event = { type: 'create', did: `did:plc:${i}`, collection: 'app.bsky.feed.post', rkey: '3k', record: {} }
    refusals.letter(
      'firehose_live',
      i % 4 === 0 ? 'constraint' : 'crash-loop',
      letter(i, { event: JSON.stringify(event) }),
    )
  }
  refusals.letter(
    'label_live',
    'constraint',
    letter(7, { event: '{"label":{"uri":"at://did:plc:l/a/b","val":"spam"}}' }),
  )
  refusals.letter('label_live', 'not-json', letter(8, { event: 'no { json' }))
  expect(lines).toEqual([])
  refusals.flush()
  expect(lines).toMatchObject([
    {
      level: 'warn',
      stream: 'firehose_live',
      reasons: {
        constraint: {
          count: 2_500,
          sample: 'at://did:plc:0/app.bsky.feed.post/3k, entry 0-0: value too long: 0',
        },
        'crash-loop': {
          count: 7_500,
          sample: 'at://did:plc:1/app.bsky.feed.post/3k, entry 1-0: value too long: 1',
        },
      },
      msg: expect.stringContaining('sluice dlq list') as string,
    },
    {
      stream: 'label_live',
      reasons: {
        constraint: { count: 1, sample: 'at://did:plc:l/a/b, entry 7-0: value too long: 7' },
        'not-json': { count: 1, sample: 'unreadable, entry 8-0: value too long: 8' },
      },
    },
  ])
  refusals.flush()
  expect(lines).toHaveLength(2)
})

test('refused records leave a line, and what strangers write is cut short in it', () => {
  const { lines, refusals } = logged()
  for (let i = 0; i < 100; i++)
    refusals.record({
      uri: `at://did:plc:a/app.bsky.feed.post/${i}`,
      reason: 'invalid-record',
      detail: 'x'.repeat(9_999),
    })
  refusals.record({ uri: 'at://did:plc:a/com.example.x/1', reason: 'not-indexed', detail: 'com.example.x' })
  refusals[Symbol.dispose]()
  const [line] = lines as { refused: Record<string, { count: number; sample: string }> }[]
  expect(line!.refused['not-indexed']).toEqual({ count: 1, sample: 'at://did:plc:a/com.example.x/1: com.example.x' })
  expect(line!.refused['invalid-record']!.count).toBe(100)
  expect(line!.refused['invalid-record']!.sample).toMatch(/^at:\/\/did:plc:a\/app\.bsky\.feed\.post\/0: x+$/)
  expect(JSON.stringify(line).length).toBeLessThan(1_000)
  expect(lines).toHaveLength(1)
})
