/**
 * What the ingester refused is found by the command line: how many for which reason, which they were, and what was in
 * them.
 */
import { encodeFrame } from '@sluice/atproto/testing/frames.ts'
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { resigned } from '@sluice/atproto/testing/scene.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect, test as base } from '@sluice/sandbox/fixtures.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { ledgerKey } from '@sluice/streams/ledger.ts'
import { storeSample, type RefusedFrame, type RefusedSample } from '@sluice/streams/refused-frames.ts'
import { runCli } from './testing/run.ts'

const test = base.extend('redis', async ({ redisUrl }, { onCleanup }): Promise<Redis> => {
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  onCleanup(() => redis.destroy())
  return redis
})

interface Listed {
  counts: { stream: string; reason: string; frames?: number; samples: number }[]
  samples: RefusedSample[]
}

const DID = testDid('alice')
const FRAME: RefusedFrame = { reason: 'frame-bad-header', detail: 'no `t`', host: 'relay.example', seq: undefined, did: '', type: 'unreadable', bytes: Buffer.from('no frame\u0000\u001b[2J') } // prettier-ignore

test('who sees refused frames in the metrics finds out which they were: whose, why, and every byte of them', async ({
  redisUrl,
}) => {
  await using relay = await FakeRelay.start()
  const env = { REDIS_URL: redisUrl, RELAY_HOSTS: relay.url, PLC_URL: relay.url, ALLOW_PRIVATE_HOSTS: 'true' }
  const sluice = (...args: string[]) => runCli(args, { ...env, METRICS_PORT: '0' })
  expect((await sluice('refused', 'list')).stdout).toBe('nothing was refused\n')
  const alice = new TestRepo(DID)
  relay.register(alice)
  const made = alice.write([
    { path: 'app.bsky.feed.post/one', record: { $type: 'app.bsky.feed.post', text: 'forged' } },
  ])
  const body = resigned({ repo: alice, made, state: { rev: '', data: alice.data } }, {}, testKey('somebody else'))
  const bytes = encodeFrame('#commit', { ...body, seq: 1 })
  relay.send(bytes, 1)
  const daemon = { ...env, INGESTER_MODE: 'firehose', INGESTER_INITIAL_CURSOR: '0' }
  await using ingester = await startDaemon({ role: 'ingester', env: daemon })
  const outcomes = () => ingester.metric('sluice_ingester_refusal_samples_total', { outcome: 'stored' })
  await expect.poll(outcomes, { timeout: 20_000 }).toBe(1)
  await expect
    .poll(async () => (JSON.parse((await sluice('refused', 'list', '--json')).stdout) as Listed).counts)
    .toEqual([{ stream: 'firehose_live', reason: 'bad-signature', frames: 1, samples: 1 }])

  const listed = await sluice('refused', 'list', '--reason', 'bad-signature')
  expect(listed.code).toBe(0)
  for (const told of [relay.host, DID, 'not by did:key:']) expect(listed.stdout).toContain(told)
  const [id] = /\d{13}-\d+/.exec(listed.stdout)!
  const shown = await sluice('refused', 'show', id)
  for (const told of ['"t": "#commit"', `"repo": "${DID}"`, '"text":"forged"', `${bytes.length} bytes`]) {
    expect(shown.stdout).toContain(told)
  }
  expect(Buffer.from((await sluice('refused', 'show', id, '--frame')).stdout, 'latin1')).toEqual(bytes)
  const json = JSON.parse((await sluice('refused', 'show', id, '--json')).stdout) as { frame: string; blocks: object[] }
  expect(json).toMatchObject({
    id,
    seq: 1,
    did: DID,
    header: { op: 1, t: '#commit' },
    body: { seq: 1, rev: alice.rev },
  })
  expect(json.blocks).toContainEqual({ cid: expect.stringMatching(/^bafy/) as string, value: { $type: 'app.bsky.feed.post', text: 'forged' } }) // prettier-ignore
  expect(Buffer.from(json.frame, 'base64')).toEqual(bytes)
})

test('a frame that cannot be read is shown as bytes, and writes nothing to a terminal but that', async ({
  redis,
  redisUrl,
}) => {
  const id = await storeSample(redis, 'label_live', FRAME)
  const { code, stdout } = await runCli(['refused', 'show', id], { REDIS_URL: redisUrl })
  expect(code).toBe(0)
  expect(stdout).toContain('cannot be read: ')
  expect(stdout).toContain('00000000: 6e6f 2066 7261 6d65 001b 5b32 4a         no frame..[2J')
  expect(stdout).not.toContain('\u001b')
})

test('a frame of which only the beginning is kept is shown as far as it goes', async ({ redis, redisUrl }) => {
  const frame = encodeFrame('#identity', { seq: 1, did: DID, time: 'x'.repeat(100_000) })
  const id = await storeSample(redis, 'firehose_live', { ...FRAME, bytes: frame })
  const { stdout } = await runCli(['refused', 'show', id], { REDIS_URL: redisUrl })
  expect(stdout).toContain(`frame    ${frame.length.toLocaleString('en-US')} bytes, of which the first 65,536 are kept`)
  expect(stdout).toContain('"t": "#identity"')
  expect(stdout).toContain('cannot be read: cbor-truncated')
})

test('refusals of long ago are counted though their samples are gone; of several relays together', async ({
  redis,
  redisUrl,
}) => {
  const env = { REDIS_URL: redisUrl, RELAY_HOSTS: 'wss://one.example,two.example' }
  await redis.hSet(ledgerKey('firehose_live', 'one.example'), { 'refused:cbor-float': '2', appended: '9' })
  await redis.hSet(ledgerKey('firehose_live', 'two.example'), { 'refused:cbor-float': '3' })
  const { stdout } = await runCli(['refused', 'list', '--json'], env)
  const counts = [{ stream: 'firehose_live', reason: 'cbor-float', samples: 0, frames: 5 }]
  expect(JSON.parse(stdout)).toEqual({ counts, samples: [] })
  expect((await runCli(['refused', 'list'], env)).stdout).toContain('no samples')
})

test('an id or a stream that does not exist is named; with shards each looks at the streams of its own', async ({
  redis,
  redisUrl,
}) => {
  const env = { REDIS_URL: redisUrl, INGESTER_FIREHOSE_STREAM: 'firehose_live:1', INGESTER_SHARD: '1/2' }
  await storeSample(redis, 'firehose_live', FRAME)
  expect((await runCli(['refused', 'list'], env)).stdout).toBe('nothing was refused\n')
  const id = await storeSample(redis, 'firehose_live:1', FRAME)
  expect((await runCli(['refused', 'list'], env)).stdout).toContain(id)
  expect(await runCli(['refused', 'show', '1-1'], env)).toMatchObject({ code: 1, stderr: expect.stringContaining('there is no sample 1-1') as string }) // prettier-ignore
  expect(await runCli(['refused', 'list', '--stream', 'firehose_live'], env)).toMatchObject({ code: 1, stderr: expect.stringContaining('there are firehose_live:1, label_live') as string }) // prettier-ignore
  expect((await runCli(['refused', 'show', 'abc'], env)).code).toBe(2)
})
