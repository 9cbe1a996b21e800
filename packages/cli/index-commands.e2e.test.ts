/**
 * Commands that work on the index as a whole: a bulk load from its beginning to its end, an import of identities, what
 * is remembered of ended records.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { tidFromMicros } from '@sluice/events/tid.ts'
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { applyBatch } from '@sluice/indexing/apply-batch.ts'
import { KnownActors } from '@sluice/indexing/own.ts'
import { history } from '@sluice/indexing/testing/history.ts'
import { differences, snapshot } from '@sluice/indexing/testing/snapshot.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startNetwork } from '@sluice/sandbox/network.ts'
import { SCHEMA } from '@sluice/sandbox/template.ts'
import { runCli } from './testing/run.ts'

const poolOn = (url: string): DatabasePool => new DatabasePool({ url, schema: SCHEMA, size: 4, role: 'test' })

test('sluice bulk: begun, loaded and finished, the index is what it is without', async ({
  database,
  otherDatabase,
}) => {
  const events = history({ seed: 5, events: 200 })
  const load = async (db: DatabasePool): Promise<void> => {
    const index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
    for (let at = 0; at < events.length; at += 40) await applyBatch(index, events.slice(at, at + 40))
  }
  await using plain = poolOn(database)
  await using bulk = poolOn(otherDatabase)
  await load(plain)
  const sluice = (...args: string[]) => runCli(['bulk', ...args], { DB_POSTGRES_URL: otherDatabase })
  expect(await sluice('status')).toMatchObject({ code: 0, stdout: 'no bulk load is under way\n' })
  expect(await sluice('finish')).toMatchObject({ code: 1, stderr: expect.stringContaining('no bulk load') as string })
  const wrong = { code: 2, stderr: expect.stringContaining('a whole number from 1 to 64') as string }
  for (const jobs of ['0', 'two', '65']) expect(await sluice('finish', '--jobs', jobs)).toMatchObject(wrong)
  expect((await sluice('begin')).stdout).toMatch(/\d+ indexes wait until/)
  expect((await sluice('begin')).stdout).toContain('under way already')
  await load(bulk)
  expect(await sluice('status')).toMatchObject({ code: 1, stdout: expect.stringContaining('loading, begun') as string })
  expect((await sluice('finish', '--jobs', '3')).stdout).toContain('the index is complete')
  expect((await sluice('status')).code).toBe(0)
  expect(differences(await snapshot(plain), await snapshot(bulk))).toEqual([])
  const full = await runCli(['bulk', 'begin'], { DB_POSTGRES_URL: database })
  expect(full).toMatchObject({ code: 1, stderr: expect.stringContaining('begins with an empty index') as string })
})

test('sluice identity import: the operations of a real directory, and a line that is none', async ({ database }) => {
  await using network = await startNetwork()
  const { did } = await network.pds.createAccount('alice')
  const log = (await (await fetch(`${network.plcUrl}/${did}/log/audit`)).json()) as { operation: object }[]
  const folder = mkdtempSync(join(tmpdir(), 'sluice-cli-'))
  try {
    const file = join(folder, 'plc.jsonl')
    const sluice = () => runCli(['identity', 'import', file], { DB_POSTGRES_URL: database })
    writeFileSync(file, log.map((operation) => `${JSON.stringify(operation)}\n`).join(''))
    expect(await sluice()).toMatchObject({ code: 0, stdout: expect.stringContaining('1 identities stored') as string })
    await using db = poolOn(database)
    const { rows } = await db.query<{ did: string }>('select did from did_cache')
    expect(rows).toEqual([{ did }])
    // A backslash and four zeros are no U+0000.
    const operation = { ...log[0]!.operation, alsoKnownAs: ['at://odd\\u0000'] }
    writeFileSync(file, `${JSON.stringify({ ...log[0], did: `did:plc:${'b'.repeat(24)}`, operation })}\n`)
    expect(await sluice()).toMatchObject({ code: 0, stdout: expect.stringContaining('1 identities stored') as string })
    writeFileSync(file, 'no operation\n')
    expect(await sluice()).toMatchObject({ code: 1, stdout: expect.stringContaining('1 lines are no') as string })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('sluice prune --facts: what ended long ago is forgotten when asked to, what ended lately stays', async ({
  database,
  redisUrl,
}) => {
  await using db = poolOn(database)
  const daysAgo = (days: number): string => tidFromMicros((Date.now() - days * 86_400_000) * 1_000)
  const [long, lately] = ['at://did:plc:x/app.bsky.feed.post/long', 'at://did:plc:x/app.bsky.feed.post/lately']
  for (const [uri, since, until] of [
    [long, 500, 400],
    [long, 400, 10],
    [lately, 500, 10],
  ] as const) {
    await db.query(
      `insert into past_fact (uri, did, key, since, until, fact) values ($1, 'did:plc:x', $1, $2, $3, '{}')`,
      [uri, daysAgo(since), daysAgo(until)],
    )
  }
  const sluice = (...args: string[]) => runCli(['prune', ...args], { DB_POSTGRES_URL: database, REDIS_URL: redisUrl })
  expect((await sluice('--yes')).stdout).not.toContain('past_fact')
  // Before there were TIDs, and no whole number of microseconds ago.
  for (const days of ['30000', '500.123456789']) expect(await sluice('--facts', days)).toMatchObject({ code: 0 })
  // As a time, though the table has TIDs.
  expect((await sluice('--facts', '365')).stdout).toMatch(/past_fact: would remove 1 rows from before \d{4}-\d\d-\d\dT/)
  expect((await sluice('--facts', '365', '--yes')).stdout).toContain('past_fact: removed 1 rows')
  const { rows } = await db.query<{ uri: string }>('select uri from past_fact order by uri')
  expect(rows).toEqual([{ uri: lately }, { uri: long }])
})
