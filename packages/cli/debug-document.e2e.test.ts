/**
 * Every command of DATAPLANE_DEBUG.md runs, on a system in which there is something to see; every finding of doctor has
 * its entry.
 */
import { readFileSync } from 'node:fs'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { startDaemon, type Daemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { queryOnce } from '@sluice/sandbox/postgres.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { bury } from '@sluice/streams/dead-letters.ts'
import { ensureGroup, readNew } from '@sluice/streams/entries.ts'
import { recordIncident } from '@sluice/streams/incidents.ts'
import { FINDINGS } from './doctor/finding.ts'
import { anchorsOf, commandsOf, linksOf, type DocumentCommand } from './testing/debug-document.ts'
import { runCli } from './testing/run.ts'

const TEXT = readFileSync(new URL('../../DATAPLANE_DEBUG.md', import.meta.url), 'utf8')
const DID = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
/** They say by 1 that something is wrong, as they should here. */
const CHECKS = ['doctor', 'verify', 'recount', 'migrate']

test('every finding has an entry, every entry has its five parts, every link leads somewhere', () => {
  const anchors = anchorsOf(TEXT)
  expect(FINDINGS.filter((id) => !anchors.includes(id))).toEqual([])
  expect(new Set(anchors).size).toBe(anchors.length)
  expect(linksOf(TEXT).filter((name) => !anchors.includes(name))).toEqual([])
  const entries = TEXT.split(/^### /m).slice(1)
  expect(entries.length).toBeGreaterThan(25)
  for (const entry of entries) {
    const parts = [...entry.matchAll(/^\*\*(Symptom|See it|Means|Fix it|Never)\b/gm)].map(([, part]) => part)
    expect(parts, entry.split('\n')[0]).toEqual(['Symptom', 'See it', 'Means', 'Fix it', 'Never'])
    expect(entry, 'can be seen by a command').toContain('```sh')
  }
})

test('every command in it runs', async ({ database }) => {
  await using server = await startRedis({ maxmemory: '256mb' })
  await using network = await FakeNetwork.start()
  const repo = new TestRepo(DID)
  repo.write([{ path: 'app.bsky.feed.like/one', record: { $type: 'app.bsky.feed.like' } }])
  network.addAccount(repo, await network.addHost())
  const env = { REDIS_URL: server.url(), DB_POSTGRES_URL: database, PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true', METRICS_PORT: '0' } // prettier-ignore
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  try {
    // In another database of the same server, so that it changes nothing of what there is to see.
    await using daemon = await startDaemon({ role: 'indexer', env: { REDIS_URL: server.url(1), DB_POSTGRES_URL: database, INDEXER_CONSUMER: 'one' } }) // prettier-ignore
    let ran = 0
    const blocks = commandsOf(TEXT, await seed(redis, env, daemon)).length
    for (let block = 0; block < blocks; block++) {
      // What the block before has fixed is broken again.
      const variables = await seed(redis, env, daemon)
      for (const command of commandsOf(TEXT, variables)[block]!) {
        await run(command, redis, env)
        ran++
      }
    }
    expect(ran).toBeGreaterThan(70)
  } finally {
    redis.destroy()
  }
})

/** Something of everything that the document looks at. Returns what its variables stand for. */
async function seed(redis: Redis, env: Record<string, string>, { port }: Daemon): Promise<Record<string, string>> {
  await redis.flushDb()
  const address = { stream: 'firehose_live', group: 'firehose_group', consumer: 'one' }
  await ensureGroup(redis, address)
  await ensureGroup(redis, { stream: 'label_live', group: 'label_group', consumer: 'one' })
  await ensureGroup(redis, { stream: 'repo_backfill', group: 'repo_backfill_group', consumer: 'one' })
  for (let i = 0; i < 4; i++)
    await redis.xAdd('firehose_live', '*', { event: JSON.stringify({ type: 'create', did: DID, i }) })
  const [first] = await readNew(redis, address, 3, 10)
  await bury(redis, { stream: 'firehose_live', group: 'firehose_group', entryId: first!.id, fields: first!.fields, reason: 'constraint', message: 'no', attempts: 1 }) // prettier-ignore
  // Somebody has to be alive to take over what the dead left.
  await ensureGroup(redis, { ...address, consumer: 'two' })
  await redis.hSet('firehose_live:lease:firehose_group:two', 'details', 'a host pid 1')
  await redis.zAdd('repo_backfill:retry', {
    score: Date.now() + 60_000,
    value: JSON.stringify({ did: DID, host: 'h', rev: '' }),
  })
  await redis.set('firehose_live:cursor:relay.example', '42')
  await recordIncident(redis, { kind: 'group-lost', role: 'test', what: 'it', action: 'made anew' })
  const [letter] = (await redis.xRange('firehose_live_dlq', '-', '+')) ?? []
  return {
    REDIS_URL: env.REDIS_URL!,
    DB_POSTGRES_URL: env.DB_POSTGRES_URL!,
    STREAM: address.stream,
    GROUP: address.group,
    CONSUMER: address.consumer,
    DID,
    URI: `at://${DID}/app.bsky.feed.like/one`,
    ID: letter!.id,
    RELAY: 'relay.example',
    DAEMON: `http://127.0.0.1:${port}`,
  }
}

async function run({ line, text, words }: DocumentCommand, redis: Redis, env: Record<string, string>): Promise<void> {
  const [program, ...args] = words
  const where = `line ${line}: ${text}`
  switch (program) {
    case 'sluice': {
      const { code, stdout, stderr } = await runCli(args, env)
      expect([0, ...(CHECKS.includes(args[0]!) ? [1] : [])], `${where}\n${stdout}${stderr}`).toContain(code)
      expect(stderr, where).toBe('')
      return
    }
    case 'redis-cli': {
      expect(args.slice(0, 2), where).toEqual(['-u', env.REDIS_URL])
      const reply = await redis.sendCommand(args.slice(2)).catch((error: unknown) => error)
      expect(reply, where).not.toBeInstanceOf(Error)
      return
    }
    case 'psql': {
      expect([args[0], args[1], args.length], where).toEqual([env.DB_POSTGRES_URL, '-c', 3])
      const rows = await queryOnce(env.DB_POSTGRES_URL!, args[2]!).catch((error: unknown) => error)
      expect(rows, where).not.toBeInstanceOf(Error)
      return
    }
    case 'curl': {
      const response = await fetch(args.at(-1)!)
      expect(response.status, where).toBe(200)
      await response.text()
      return
    }
    default:
      throw new Error(`${where}: ${program} is none of the programs that the document may use`)
  }
}
