/**
 * Asking for many repositories fills Redis only as far as the backfiller still takes from the queue, and ends whatever
 * a host lists.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { HttpClient } from '@sluice/atproto/http.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { tidFromMicros } from '@sluice/events/tid.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { moveChain, UNKNOWN_CHAIN } from '@sluice/streams/chain-state.ts'
import { ensureGroup } from '@sluice/streams/entries.ts'
import { HighWater, memoryUse } from '@sluice/streams/high-water.ts'
import { listHost } from './backfill-requests.ts'
import { runCli } from './testing/run.ts'

const QUEUE = 'repo_backfill_priority'
const MANY = 150_000

/** Redis with 24 MB, and a file that names more accounts than it can hold. */
async function withFile(
  work: (world: { redis: Redis; env: Record<string, string>; file: string; dids: string[] }) => Promise<void>,
) {
  await using server = await startRedis({ maxmemory: '24mb' })
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  const folder = mkdtempSync(join(tmpdir(), 'sluice-cli-'))
  try {
    const file = join(folder, 'dids.txt')
    const letters = (i: number): string =>
      i
        .toString(26)
        .padStart(24, '0')
        .replaceAll(/./g, (digit) => String.fromCodePoint(97 + parseInt(digit, 26)))
    const dids = Array.from({ length: MANY }, (_, i) => `did:plc:${letters(i)}`)
    writeFileSync(file, dids.join('\n'))
    await work({
      redis,
      file,
      dids,
      env: { REDIS_URL: server.url(), INGESTER_REPO_STREAM_HIGH_WATER_MARK: String(MANY) },
    })
  } finally {
    redis.destroy()
    rmSync(folder, { recursive: true })
  }
}

async function memoryRatio(redis: Redis): Promise<number> {
  const { usedBytes, maxBytes } = memoryUse(await redis.info('memory'))
  return usedBytes / maxBytes
}

/** Whether the backfiller would take from the queue at this moment. */
async function backfillerTakes(redis: Redis): Promise<boolean> {
  const mark = new HighWater({ redis, stream: 'firehose_backfill', entriesMax: 100_000, memoryRatioMax: 0.6 })
  await mark.room(AbortSignal.abort()).catch(() => {})
  return mark.held === undefined
}

test('a file of more accounts than Redis holds waits for room, and all of them are queued', async () => {
  await withFile(async ({ redis, env, file, dids }) => {
    const over = new AbortController()
    const said = runCli(['backfill', 'file', file], env).finally(() => over.abort())
    let [most, waited, taken] = [0, 0, 0]
    // As a backfiller would, each time that no more comes in.
    for (let before = -1; !over.signal.aborted || (await redis.xLen(QUEUE)) > 0;) {
      const now = await redis.xLen(QUEUE)
      most = Math.max(most, await memoryRatio(redis))
      if (now > 1_000 && now === before) {
        waited++
        expect(await backfillerTakes(redis)).toBe(true)
        taken += await take(redis, Math.round(now / 2))
      } else if (over.signal.aborted) taken += await take(redis, now)
      before = await redis.xLen(QUEUE)
      await new Promise((resolve) => setTimeout(resolve, 300))
    }
    expect(await said).toMatchObject({
      code: 0,
      stderr: '',
      stdout: expect.stringContaining('queued; waits: ') as string,
    })
    expect(taken).toBe(dids.length)
    expect(waited).toBeGreaterThan(0)
    expect(most).toBeLessThan(0.54)
  })
})

async function take(redis: Redis, entries: number): Promise<number> {
  let taken = 0
  while (taken < entries) {
    const page = (await redis.xRange(QUEUE, '-', '+', { COUNT: 5_000 })) ?? []
    if (page.length === 0) break
    taken += await redis.xDel(QUEUE, page.map(({ id }) => id)) // prettier-ignore
  }
  return taken
}

test('stopped while it waits it names the first account that is not queued; some accounts go in at once, and a group reset ends', async () => {
  await withFile(async ({ redis, env, file, dids }) => {
    const stop = new AbortController()
    const said = runCli(['backfill', 'file', file], env, stop.signal)
    await expect.poll(() => memoryRatio(redis)).toBeGreaterThanOrEqual(0.5)
    stop.abort()
    const { code, stdout } = await said
    const queued = await redis.xLen(QUEUE)
    expect(queued).toBeGreaterThan(1_000)
    expect(code).toBe(130)
    expect(stdout).toContain(`the first of them is ${dids[queued]}\n`)

    // Above the mark now, whoever made it so.
    await redis.set('ballast', 'x'.repeat(3_000_000))
    expect(await memoryRatio(redis)).toBeGreaterThan(0.5)
    expect(await runCli(['backfill', 'did', dids[0]!], env)).toMatchObject({ code: 0 })
    const address = { stream: 'firehose_live', group: 'firehose_group', consumer: 'one' }
    await ensureGroup(redis, address)
    const event = (did: string) =>
      JSON.stringify({ type: 'account', seq: 1, time: '2026-01-01T00:00:00.000Z', did, active: true })
    await Promise.all(dids.slice(0, 3_000).map((did) => redis.xAdd(address.stream, '*', { event: event(did) })))
    expect(await runCli(['group', 'reset', address.stream, '--to', 'end', '--yes'], env)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('3,000 repositories queued') as string,
    })
  })
})

test('a host whose listing has no end is given up', async () => {
  let pages = 0
  const server = createServer((_, response) => {
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ cursor: `made-up-${++pages}`, repos: [] }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const http = new HttpClient({ allowPrivate: true })
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const listing = listHost(new XrpcClient(http), url, { signal: new AbortController().signal, pagesMax: 7 })
    await expect(Array.fromAsync(listing)).rejects.toThrow('has no end after 7 pages')
    expect(pages).toBe(7)
  } finally {
    await http.close()
    server.close()
  }
})

test('every account that has committed since a time is queued, and no other; a wrong time is told before anything is done', async ({
  redisUrl,
}) => {
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    const chains = ['2026-11-01T09:29:59.999Z', '2026-11-01T09:30:00.000Z', '2026-11-02T00:00:00.000Z'].map((at, i) => {
      const record = {
        ...UNKNOWN_CHAIN,
        rev: tidFromMicros(Date.parse(at) * 1_000),
        data: `\x01\x71\x12\x20${'x'.repeat(16)}`,
      }
      return moveChain(`did:plc:${String.fromCharCode(97 + i).repeat(24)}`, undefined, record)
    })
    for (const { key, field, to } of chains) await redis.hSet(key, field, to)
    const queued = async () =>
      ((await redis.xRange(QUEUE, '-', '+')) ?? []).map(
        ({ message }) => (JSON.parse(message.repo!) as { did: string }).did,
      )
    expect((await runCli(['backfill', 'since', 'yesterday'], { REDIS_URL: redisUrl })).code).toBe(2)
    expect(await queued()).toEqual([])
    const said = await runCli(['backfill', 'since', '2026-11-01T09:30:00Z'], { REDIS_URL: redisUrl })
    expect(said).toMatchObject({
      code: 0,
      stderr: '',
      stdout: expect.stringContaining('2 repositories queued') as string,
    })
    expect((await queued()).toSorted()).toEqual(['b', 'c'].map((letter) => `did:plc:${letter.repeat(24)}`))
  } finally {
    redis.destroy()
  }
})
