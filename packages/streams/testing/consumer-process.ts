/**
 * A process that consumes, for tests that kill it. Its effect is durable: the list `processed`, which gets one line per
 * event before the ack. `SLUICE_TEST_*` tell it what to read; an event tells it how to misbehave.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { connectRedis } from '../connection.ts'
import { Consumer } from '../consumer.ts'
import { Turns } from '../turns.ts'
import { peekTestKey, testCodec, type TestEvent } from './events.ts'

const { SLUICE_TEST_URL: url = '', SLUICE_TEST_CONSUMER: consumer = 'one', SLUICE_TEST_LIMITS = '{}' } = process.env
const { SLUICE_TEST_STREAMS: streams = '' } = process.env
const workMs = Number(process.env.SLUICE_TEST_WORK_MS ?? 0)

const stop = new AbortController()
process.on('SIGTERM', () => stop.abort())

const redis = await connectRedis({ url, name: consumer })
const processTurns = new Turns()
await Promise.all(streams.split(',').map(consume))
redis.destroy()

async function consume(stream: string): Promise<void> {
  const reader = await connectRedis({ url, name: `${consumer} reader` })
  const one = new Consumer<TestEvent>({
    redis,
    reader,
    address: { stream, group: 'g', consumer },
    codec: testCodec,
    key: ({ key }) => key,
    peekKey: peekTestKey,
    limits: JSON.parse(SLUICE_TEST_LIMITS) as object,
    processTurns,
    backoff: { baseMs: 20, capMs: 200, healthyAfterMs: 1_000 },
    observer: { trouble: (error) => process.stderr.write(`trouble: ${error.message}\n`) },
  })
  try {
    await one.run(stop.signal, 3, async (batches) => {
      for await (const batch of batches) {
        for (const event of batch.events) await misbehave(event)
        if (workMs > 0) await delay(workMs)
        await redis.rPush(
          'processed',
          batch.events.map(({ n }) => `${n} ${consumer}`),
        )
        await batch.ack()
      }
    })
  } catch (error) {
    process.stderr.write(`${String(error)}\n`)
    process.exitCode = 1
    stop.abort()
  }
  reader.destroy()
}

async function misbehave({ n, deed, key }: TestEvent): Promise<void> {
  switch (deed) {
    case 'kill':
      await redis.hIncrBy('deaths', key, 1)
      process.kill(process.pid, 'SIGKILL')
      return
    case 'throw':
      await redis.hIncrBy('deaths', key, 1)
      throw new Error(`no idea what to do with ${n}`)
    case 'slow':
      await redis.set('slow', String(n))
      await delay(3_000)
      return
    case undefined:
      return
  }
}
