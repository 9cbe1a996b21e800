import { labelEventCodec, peekDid, streamEventCodec } from '@sluice/events/codec.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import type { Redis } from './connection.ts'
import { Consumer } from './consumer.ts'
import {
  bury,
  countDeadLetters,
  deadLetterStream,
  DeadLettersFullError,
  dropDeadLetters,
  retryDeadLetters,
  selectDeadLetters,
} from './dead-letters.ts'
import { listIncidents } from './incidents.ts'
import { scripts } from './scripts.ts'
import { eventsFrom, numbers, sorted, testCodec, type TestEvent } from './testing/events.ts'
import { address, never, test } from './testing/fixtures.ts'
import { listDeadLetters } from './testing/list-letters.ts'
import { FaultyProxy } from './testing/proxy.ts'

const { stream, group } = address
const databaseOf = (url: string): string => url.slice(url.lastIndexOf('/') + 1)

/** The events of the stream, when nothing is left in it. */
async function drain(redis: Redis, reader: Redis, peekKey?: typeof peekDid): Promise<StreamEvent[]> {
  const consumer = new Consumer({
    redis,
    reader,
    address,
    codec: streamEventCodec,
    key: ({ did }) => did,
    peekKey,
  })
  const stop = new AbortController()
  const seen: StreamEvent[] = []
  const running = consumer.run(stop.signal, 2, async (batches) => {
    for await (const batch of batches) {
      seen.push(...batch.events)
      await batch.ack()
    }
  })
  await expect.poll(() => redis.xLen(stream)).toBe(0)
  stop.abort()
  await running
  return seen
}

test('entries that cannot be decoded become dead letters with their payload, the others are handed out', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await redis.xAdd(stream, '*', { event: 'no { json' })
  await redis.xAdd(stream, '*', { other: 'field', and: 'more' })
  await redis.xAdd(stream, '*', { event: '{"type":"unheard-of"}' })
  const good = { type: 'account', seq: 1, time: '2026-11-21T00:00:00.000Z', did: 'did:plc:a', active: true } as const
  await redis.xAdd(stream, '*', streamEventCodec.encode(good))
  const seen = await drain(redis, await tools.connect(redisUrl))
  expect(seen).toEqual([good])
  const letters = await listDeadLetters(redis, stream, 10)
  expect(letters.map(({ reason, fields, attempts }) => ({ reason, fields, attempts }))).toEqual([
    { reason: 'not-json', fields: { event: 'no { json' }, attempts: 1 },
    { reason: 'missing-field', fields: { other: 'field', and: 'more' }, attempts: 1 },
    { reason: 'not-an-event', fields: { event: '{"type":"unheard-of"}' }, attempts: 1 },
  ])
  expect((await listIncidents(redis, 10)).map(({ kind, what }) => [kind, what.slice(0, 14)])).toEqual([
    ['dead-letters', '3 entries of s'],
  ])
})

test('an entry that is held as text is a dead letter once its batch begins, when it does not decode or names another key', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  const good = { type: 'identity', seq: 1, time: '2026-11-21T00:00:00.000Z', did: 'did:plc:a' } as const
  const cut = '{"type":"identity","did":"did:plc:a","seq":'
  const twice = '{"type":"identity","did":"did:plc:b","seq":2,"time":"2026-11-21T00:00:00.000Z","did":"did:plc:a"}'
  await redis.xAdd(stream, '*', { event: cut })
  await redis.xAdd(stream, '*', { event: twice })
  await redis.xAdd(stream, '*', streamEventCodec.encode(good))
  expect([cut, twice].map((event) => peekDid({ event }))).toEqual(['did:plc:a', 'did:plc:b'])
  const seen = await drain(redis, await tools.connect(redisUrl), peekDid)
  expect(seen).toEqual([good])
  const letters = await listDeadLetters(redis, stream, 10)
  expect(letters.length).toBe(2)
  expect(Object.fromEntries(letters.map(({ reason, fields }) => [reason, fields.event]))).toEqual({
    'not-an-event': twice,
    'not-json': cut,
  })
})

test('an entry on which codec or key throw something of their own is poison, not the end', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await redis.xAdd(
    stream,
    '*',
    labelEventCodec.encode({ type: 'label', label: { src: 'did:plc:l', uri: 'at://x', val: 'y', cts: 'z' } }),
  )
  await tools.producer(redis).append(eventsFrom(0, 3), never)
  const key = (event: TestEvent) => {
    if (event.key === undefined) throw new RangeError('no key at all')
    return event.key
  }
  const { acked } = tools.consume({ redis, reader: await tools.connect(redisUrl), key })
  await expect.poll(() => sorted(acked)).toEqual(numbers(3))
  expect((await listDeadLetters(redis, stream, 10)).map(({ message }) => message)).toEqual([
    'RangeError: no key at all',
  ])
})

test('a refused event is a dead letter, its neighbours are acked, and only they count as acked', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 5, 1), never)
  const counted = { acked: 0, buried: [] as string[] }
  const observer = {
    acked: (entries: number) => void (counted.acked += entries),
    buried: (reason: string) => void counted.buried.push(reason),
  }
  const running = tools.consume({ redis, reader: await tools.connect(redisUrl), observer }, async (batches) => {
    for await (const batch of batches) {
      for (const event of batch.events) {
        if (event.n !== 2) continue
        await batch.refuse(event, { reason: 'too-odd', code: '22P05', message: 'NUL in text' })
        await batch.refuse(event, { reason: 'too-odd', message: 'again' })
      }
      await batch.ack()
    }
  })
  await expect.poll(() => counted.acked).toBe(4)
  expect(counted.buried).toEqual(['too-odd'])
  expect(await redis.xLen(stream)).toBe(0)
  const letters = await listDeadLetters(redis, stream, 10)
  expect(letters).toMatchObject([{ reason: 'too-odd', code: '22P05', message: 'NUL in text', attempts: 1 }])
  expect(JSON.parse(letters[0]!.fields.event!)).toEqual({ key: 'k0', n: 2 })
  expect(running.consumer.heldEntries).toBe(0)
})

test('full dead letters stop the stream instead of losing the entry, and room lets it go on', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  for (const text of ['one', 'two', 'three']) await redis.xAdd(stream, '*', { event: text })
  await tools.producer(redis).append(eventsFrom(0, 3), never)
  const trouble: string[] = []
  const observer = { trouble: (error: Error) => void trouble.push(error.message) }
  const { acked } = tools.consume({
    redis,
    reader: await tools.connect(redisUrl),
    observer,
    limits: { deadLetters: 2 },
  })
  await expect.poll(() => trouble.filter((text) => text.includes('s_dlq is full')).length).toBeGreaterThan(2)
  expect(acked).toEqual([])
  expect(await redis.xLen(stream)).toBe(4)
  await redis.sendCommand(['XTRIM', deadLetterStream(stream), 'MAXLEN', '0'])
  await expect.poll(() => sorted(acked), { timeout: 5_000 }).toEqual(numbers(3))
  expect((await listDeadLetters(redis, stream, 10)).map(({ fields }) => fields.event)).toEqual(['three'])
})

/** Dead letters as they come to be: `reasons` in turn. */
async function buryMany(redis: Redis, count: number, reasons: readonly string[]): Promise<void> {
  await redis.xGroupCreate(stream, group, '0', { MKSTREAM: true })
  for (const n of numbers(count)) {
    const entryId = await redis.xAdd(stream, '*', testCodec.encode({ key: 'k', n }))
    const fields = { ...testCodec.encode({ key: 'k', n }), more: 'of it' }
    await bury(redis, {
      stream,
      group,
      entryId,
      fields,
      reason: reasons[n % reasons.length]!,
      message: '',
      attempts: 2,
    })
  }
}

const numberOf = (fields: Record<string, string>): number => testCodec.decode(fields).n

test('dead letters are found by id, by reason, and all of them, over pages', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await buryMany(redis, 130, ['odd', 'even'])
  const select = async (selection: Parameters<typeof selectDeadLetters>[2]) => {
    const found: number[] = []
    for await (const page of selectDeadLetters(redis, stream, selection)) {
      found.push(...page.map(({ fields }) => numberOf(fields)))
    }
    return found
  }
  expect(await select('all')).toEqual(numbers(130))
  expect(await select({ reason: 'even' })).toEqual(numbers(130).filter((n) => n % 2 === 1))
  expect(await select({ reason: 'unheard-of' })).toEqual([])
  const ids = (await listDeadLetters(redis, stream, 1_000)).map(({ id }) => id)
  expect(await select([ids[7]!, '1-1', ids[3]!])).toEqual([7, 3])
})

test('a retried dead letter is the entry it was, at the end of its stream, and one that dies again says so', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await buryMany(redis, 4, ['odd', 'even'])
  const came = (await listDeadLetters(redis, stream, 4)).map(({ entryId }) => entryId)
  expect(await retryDeadLetters(redis, stream, { reason: 'odd' })).toEqual({ retried: 2, damaged: [] })
  const entries = (await redis.xRange(stream, '-', '+')) ?? []
  expect(entries.map(({ message }) => message)).toEqual(
    [0, 2].map((n) => ({ ...testCodec.encode({ key: 'k', n }), more: 'of it', retries: '1', first: came[n] })),
  )
  expect(await countDeadLetters(redis, stream)).toEqual({ total: 2, reasons: { even: 2 } })

  const refuseAll = { reason: 'odd', message: 'still' }
  tools.consume({ redis, reader: await tools.connect(redisUrl) }, async (batches) => {
    for await (const batch of batches) {
      for (const event of batch.events) await batch.refuse(event, refuseAll)
      await batch.ack()
    }
  })
  await expect.poll(async () => (await countDeadLetters(redis, stream)).total).toBe(4)
  const again = (await listDeadLetters(redis, stream, 10)).filter(({ reason }) => reason === 'odd')
  expect(again.map(({ retries }) => retries)).toEqual([1, 1])
  await retryDeadLetters(redis, stream, [again[0]!.id])
  await expect.poll(async () => (await countDeadLetters(redis, stream)).total).toBe(4)
  const firstId = again[0]!.firstId
  expect(came).toContain(firstId)
  expect((await listDeadLetters(redis, stream, 10)).at(-1)).toMatchObject({ retries: 2, reason: 'odd', firstId })
})

test('retrying ends, although what is retried dies again while it goes on', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await buryMany(redis, 120, ['odd'])
  let buried = 0
  tools.consume({ redis, reader: await tools.connect(redisUrl) }, async (batches) => {
    for await (const batch of batches) {
      for (const event of batch.events) await batch.refuse(event, { reason: 'odd', message: 'still' })
      buried += batch.events.length
      await batch.ack()
    }
  })
  expect(await retryDeadLetters(redis, stream, 'all')).toEqual({ retried: 120, damaged: [] })
  await expect.poll(() => buried).toBe(120)
  expect((await countDeadLetters(redis, stream)).total).toBe(120)
})

test('two operators who retry at once put each entry back once', async ({ redisUrl, tools }) => {
  const [one, two] = [await tools.connect(redisUrl), await tools.connect(redisUrl)]
  await buryMany(one, 100, ['odd'])
  const results = await Promise.all([one, two].map(async (redis) => retryDeadLetters(redis, stream, 'all')))
  expect(results[0]!.retried + results[1]!.retried).toBe(100)
  const entries = (await one.xRange(stream, '-', '+')) ?? []
  expect(sorted(entries.map(({ message }) => numberOf(message)))).toEqual(numbers(100))
})

test('a damaged dead letter stays, is named, and can be dropped', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await buryMany(redis, 2, ['odd'])
  const id = await redis.xAdd(deadLetterStream(stream), '*', { reason: 'odd', payload: 'not json' })
  expect(await retryDeadLetters(redis, stream, { reason: 'odd' })).toEqual({ retried: 2, damaged: [id] })
  expect(await dropDeadLetters(redis, stream, [id, '1-1'])).toBe(1)
  expect((await countDeadLetters(redis, stream)).total).toBe(0)
})

test('dropping takes what was selected and nothing else', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await buryMany(redis, 130, ['odd', 'even'])
  expect(await dropDeadLetters(redis, stream, { reason: 'even' })).toBe(65)
  expect(await countDeadLetters(redis, stream)).toEqual({ total: 65, reasons: { odd: 65 } })
  expect(await dropDeadLetters(redis, stream, 'all')).toBe(65)
  expect(await redis.xLen(stream)).toBe(0)
})

test('a burial whose answer gets lost is one dead letter, even if it was the last that fits', async ({
  redisUrl,
  tools,
}) => {
  await using proxy = await FaultyProxy.start(redisUrl)
  const redis = await tools.connect(proxy.url(databaseOf(redisUrl)))
  const direct = await tools.connect(redisUrl)
  await direct.xAdd(stream, '*', { event: 'poison' })
  await direct.xAdd(stream, '*', testCodec.encode({ key: 'k', n: 1 }))
  await direct.scriptLoad(scripts.bury.text)
  proxy.loseAnswers(scripts.bury.sha)
  const { acked, consumer } = tools.consume({
    redis,
    reader: await tools.connect(redisUrl),
    limits: { deadLetters: 1 },
  })
  await expect.poll(() => acked, { timeout: 5_000 }).toEqual([1])
  expect(proxy.cuts).toBe(1)
  await expect.poll(() => consumer.heldEntries, { timeout: 5_000 }).toBe(0)
  expect(await countDeadLetters(direct, stream)).toEqual({ total: 1, reasons: { 'not-json': 1 } })
  expect(await direct.xLen(stream)).toBe(0)
})

test('the dead letters raise an alarm before they are full, and when they are; room lets the stream go on', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  for (const n of numbers(9)) await redis.xAdd(stream, '*', { event: `poison ${n}` })
  const alarms = async () =>
    (await listIncidents(redis, 100)).filter(({ what }) => what.includes('are allowed')).map(({ what }) => what)
  const running = tools.consume({ redis, reader: await tools.connect(redisUrl), limits: { deadLetters: 10 } })
  await expect.poll(alarms, { timeout: 5_000 }).toEqual(['the dead letters of s hold 8 entries; 10 are allowed'])
  await running.stop()
  const burial = { stream, group, entryId: '1-1', fields: { event: 'x' }, reason: 'odd', message: '', attempts: 1 }
  expect(await bury(redis, burial, 10)).toBe(10)
  await expect(bury(redis, { ...burial, entryId: '1-2' }, 10)).rejects.toThrow(DeadLettersFullError)

  await redis.xAdd(stream, '*', { event: 'one too many' })
  tools.consume({ redis, reader: await tools.connect(redisUrl), limits: { deadLetters: 10 } })
  await expect
    .poll(alarms, { timeout: 5_000 })
    .toContain('the dead letters of s are full, and the stream waits; 10 are allowed')
  expect(await redis.xLen(stream)).toBe(1)
  await dropDeadLetters(redis, stream, { reason: 'odd' })
  await expect.poll(() => redis.xLen(stream), { timeout: 5_000 }).toBe(0)
  expect((await listDeadLetters(redis, stream, 100)).at(-1)!.fields).toEqual({ event: 'one too many' })
})
