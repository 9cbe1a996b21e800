import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { migrate } from '@sluice/database/migrate.ts'
import { expect, test } from 'vitest'
import { sharedEnvironment } from './children.ts'
import { compare, renderComparison } from './demo/comparison.ts'
import { Stores } from './demo/stack.ts'
import { startNetwork } from './network.ts'
import { Population } from './population.ts'
import { SCHEMA } from './template.ts'

const SMALL = ['--people', '5', '--before', '60', '--during', '20']

test('the demo brings a real network into PostgreSQL by all four streams, and ends with 0', async () => {
  const demo = spawn(process.execPath, [fileURLToPath(new URL('demo.ts', import.meta.url)), '--once', ...SMALL])
  let output = ''
  for (const stream of [demo.stdout, demo.stderr]) stream.on('data', (chunk) => (output += String(chunk)))
  const [code] = (await once(demo, 'close')) as [number]
  expect({ code, output }).toMatchObject({
    code: 0,
    output: expect.stringContaining('Everything has arrived') as string,
  })
  expect(output).toContain('repositories 5 done, 0 given up, 0 under way at 0 hosts, 0 left; ')
  expect(output).toContain('; all done')
})

test('sluice runs beside the demo by the line that it prints, sees the daemons and finds nothing wrong, until the demo is gone', async () => {
  const few = ['--people', '4', '--before', '100']
  const demo = spawn(process.execPath, [fileURLToPath(new URL('demo.ts', import.meta.url)), ...few])
  let output = ''
  for (const stream of [demo.stdout, demo.stderr]) stream.on('data', (chunk) => (output += String(chunk)))
  const ended = once(demo, 'close') as Promise<[number]>
  try {
    const line = (): string | undefined => /from another terminal: (.*) npm run -s sluice -- status$/m.exec(output)?.[1]
    await expect.poll(line, { timeout: 120_000 }).toBeDefined()
    const main = fileURLToPath(new URL('../cli/main.ts', import.meta.url))
    const sluice = (command: string) => {
      const typed = `${line()} "${process.execPath}" "${main}" ${command} --json`
      return spawnSync('sh', ['-c', typed], { encoding: 'utf8', env: sharedEnvironment() })
    }
    const { stdout, status } = sluice('status')
    expect(status).toBe(0)
    const { postgres, daemons } = JSON.parse(stdout) as { postgres: { away?: string }; daemons: { role: string }[] }
    expect(postgres.away).toBeUndefined()
    expect(daemons.map(({ role }) => role).toSorted()).toEqual(['backfiller', 'indexer', 'ingester'])
    const done = () => (JSON.parse(sluice('status').stdout) as { progress?: { done: number } }).progress?.done
    await expect.poll(done, { timeout: 60_000 }).toBe(4)
    const found = () => (JSON.parse(sluice('doctor').stdout) as { findings: { id: string }[] }).findings
    await expect.poll(() => found().map(({ id }) => id), { timeout: 60_000 }).toEqual([])
    demo.kill('SIGINT')
    const [code] = await ended
    expect({ code, output }).toMatchObject({ code: 0 })
    const [, file] = /cat (\S+)\)/.exec(line()!)!
    expect(existsSync(file!), 'it names a password').toBe(false)
  } finally {
    if (demo.kill('SIGTERM')) await ended
  }
})

test('the comparison names what is missing, other and too much', async () => {
  await using stores = await Stores.start()
  await migrate(stores.databaseUrl, SCHEMA)
  await using network = await startNetwork({ labelerDatabaseUrl: await stores.postgres.createDatabase('labeler') })
  const population = await Population.create(network, { seed: 3, people: 3, before: 12, during: 0 })
  await population.populate()
  await stores.postgres.query(
    `insert into ${SCHEMA}.record (uri, cid, did, json, "indexedAt") values ('at://did:plc:nobody/app.bsky.feed.post/1', 'bafy', 'did:plc:nobody', '{}', '')`,
    [],
    'appview',
  )
  await stores.postgres.query(`insert into ${SCHEMA}.post_agg (uri, "likeCount") values ('at://x', 3)`, [], 'appview')
  const { differences, rows } = await compare(network, population, (text) => stores.query(text))
  const posts = rows.find(({ what }) => what === 'app.bsky.feed.post')!
  expect(posts).toMatchObject({ found: 1 })
  expect(differences).toContain('at://did:plc:nobody/app.bsky.feed.post/1 is in PostgreSQL and should not be')
  expect(differences).toContain('1 counters of likes of a post differ from a recount')
  expect(differences.filter((text) => text.includes('is missing'))).not.toHaveLength(0)
  expect(renderComparison({ differences, rows })).toContain(`${differences.length} differences:`)
})
