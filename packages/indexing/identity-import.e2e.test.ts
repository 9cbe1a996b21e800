/**
 * A4: an export of a real PLC directory, imported in any order and any form, is what the directory itself says of every
 * DID.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import { HttpClient } from '@sluice/atproto/http.ts'
import { MemoryIdentityCache } from '@sluice/atproto/identity-cache.ts'
import { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import { parseDidDocument } from '@sluice/atproto/identity.ts'
import { plcExportLines } from '@sluice/atproto/plc-export.ts'
import { httpServer, type TestServer } from '@sluice/atproto/testing/servers.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startNetwork } from '@sluice/sandbox/network.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { importIdentities, type IdentityImport } from './identity-import.ts'

const { signal } = new AbortController()

async function stored(db: DatabasePool): Promise<Record<string, unknown>> {
  const { rows } = await db.query<{ did: string; doc: unknown }>('select did, doc from did_cache order by did')
  return Object.fromEntries(rows.map(({ did, doc }) => [did, parseDidDocument(did, doc)]))
}

/**
 * The operations of these DIDs as a directory exports them, two a page: the one of the sandbox keeps its log in memory,
 * and exports nothing.
 */
async function exporting(plcUrl: string, dids: readonly string[]): Promise<TestServer> {
  const logs = await Promise.all(dids.map(async (did) => (await fetch(`${plcUrl}/${did}/log/audit`)).json()))
  const operations = (logs.flat() as { createdAt: string }[]).sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1))
  return await httpServer((request, response) => {
    const after = new URL(request.url!, 'http://host').searchParams.get('after') ?? ''
    const page = operations.filter(({ createdAt }) => createdAt > after).slice(0, 2)
    response.end(page.map((operation) => JSON.stringify(operation)).join('\n'))
  })
}

test('the newest operation of each DID wins; imported again, nothing changes', async ({ database, otherDatabase }) => {
  await using network = await startNetwork()
  await using stack = new AsyncDisposableStack()
  const http = stack.adopt(new HttpClient({ allowPrivate: true }), (client) => client.close())
  const pool = (url: string): DatabasePool =>
    stack.use(new DatabasePool({ url, schema: 'bsky', size: 2, role: 'test' }))
  const [db, other] = [pool(database), pool(otherDatabase)]
  const people = [await network.pds.createAccount('alice'), await network.pds.createAccount('bobby')]
  await people[0]!.agent.com.atproto.identity.updateHandle({ handle: 'alicia.test' })
  const resolver = new IdentityResolver({ plcUrl: network.plcUrl, http, cache: new MemoryIdentityCache() })
  const wanted = Object.fromEntries(
    await Promise.all(
      people.map(async ({ did }) => {
        const resolution = await resolver.resolve(did)
        return [did, resolution.status === 'found' ? resolution.identity : resolution] as const
      }),
    ),
  )
  expect(wanted[people[0]!.did]).toMatchObject({ handle: 'alicia.test' })

  await using directory = await exporting(network.plcUrl, people.map(({ did }) => did)) // prettier-ignore
  const source = `${directory.url}/export`
  const lines = await Array.fromAsync(plcExportLines(source, { http, signal }))
  const run = (into: DatabasePool, from: AsyncIterable<string>): Promise<IdentityImport> =>
    importIdentities(into, from, { signal, batchLines: 2 })
  const first = await run(db, plcExportLines(source, { http, signal }))
  expect(first).toMatchObject({ operations: lines.length, refused: 0 })
  expect(first.operations).toBeGreaterThan(2)
  expect(await stored(db)).toMatchObject(wanted)
  expect(await run(db, plcExportLines(source, { http, signal, after: first.newest! }))).toMatchObject({ operations: 0 })

  const dir = await mkdtemp(join(tmpdir(), 'sluice-export-'))
  stack.defer(() => rm(dir, { recursive: true }))
  const text = new Random(4).shuffled([...lines, ...lines, 'nonsense']).join('\n')
  await writeFile(join(dir, 'export.jsonl'), text)
  await writeFile(join(dir, 'export.jsonl.gz'), gzipSync(text))
  const again = await run(other, plcExportLines(join(dir, 'export.jsonl.gz'), { http, signal }))
  expect(again).toMatchObject({ refused: 1, newest: first.newest })
  expect(await stored(other)).toEqual(await stored(db))
  expect(await run(other, plcExportLines(join(dir, 'export.jsonl'), { http, signal }))).toMatchObject({ stored: 0 })

  await writeFile(join(dir, 'cut.jsonl.gz'), gzipSync(text).subarray(0, -20))
  await expect(run(other, plcExportLines(join(dir, 'cut.jsonl.gz'), { http, signal }))).rejects.toThrow()
  await expect(run(other, plcExportLines(join(dir, 'absent'), { http, signal }))).rejects.toThrow('ENOENT')
})

test('of two operations of one DID in one millisecond the later line wins, however the lines are cut into batches', async ({
  database,
  otherDatabase,
}) => {
  const line = (handle: string): string =>
    JSON.stringify({
      did: 'did:plc:twiceinonemsaaaaaaaaaaaa',
      createdAt: '2026-01-01T00:00:00.000Z',
      operation: { type: 'plc_operation', alsoKnownAs: [`at://${handle}`], verificationMethods: {}, services: {} },
    })
  for (const [url, batchLines] of [
    [database, 1],
    [otherDatabase, 2],
  ] as const) {
    await using db = new DatabasePool({ url, schema: 'bsky', size: 2, role: 'test' })
    const run = async (): Promise<void> => {
      const lines = Readable.from([line('first.test'), line('second.test')])
      await importIdentities(db, lines, { signal, batchLines })
    }
    for (const _ of ['imported', 'imported again']) {
      await run()
      expect(Object.values(await stored(db))).toMatchObject([{ handle: 'second.test' }])
    }
  }
})
