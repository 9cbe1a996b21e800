import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { queryOnce, startPostgres } from '@sluice/sandbox/postgres.ts'
import { parse } from 'yaml'
import { root } from './roles.ts'

/** What depends on where it runs, and not on what it is for. */
const OF_THE_PLACE = ['listen_addresses', 'shared_buffers']
/** The image's server is built with lz4, npm's is not. */
const HERE: Record<string, string> = { wal_compression: 'pglz' }

test('a PostgreSQL starts with every setting of infra/postgres/postgresql.conf, and knows it as the file means it', async () => {
  const lines = readFileSync(join(root, 'infra/postgres/postgresql.conf'), 'utf8').split('\n')
  const settings = Object.fromEntries(
    lines
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => /^(\w+) = '?([^']+)'?$/.exec(line)!.slice(1))
      .filter(([name]) => !OF_THE_PLACE.includes(name!)),
  ) as Record<string, string>
  expect(Object.keys(settings).length).toBeGreaterThan(20)
  expect(settings).toMatchObject({ wal_compression: 'lz4' })
  Object.assign(settings, HERE)

  // It ends by itself when a setting is unknown or its value is none.
  await using server = await startPostgres({ settings })
  const rows = await queryOnce<{ name: string; value: string }>(
    server.url(),
    'SELECT name, current_setting(name) AS value FROM pg_settings WHERE name = ANY($1)',
    [Object.keys(settings).map((name) => (name === 'timezone' ? 'TimeZone' : name))],
  )
  const effective = Object.fromEntries(rows.map(({ name, value }) => [name.toLowerCase(), value]))
  expect(effective).toEqual(settings)
})

test.skipIf(spawnSync('psql', ['--version']).status !== 0)(
  'PostgreSQL of docker-compose.yml is healthy once it has the database of the daemons, and not before',
  async () => {
    const { services } = parse(readFileSync(join(root, 'docker-compose.yml'), 'utf8'), { merge: true }) as {
      services: { postgres: { healthcheck: { test: string[] }; environment: Record<string, string> } }
    }
    const { healthcheck, environment } = services.postgres
    const [kind, program, ...args] = healthcheck.test
    expect(kind).toBe('CMD')
    await using server = await startPostgres()
    const isHealthy = (): boolean =>
      spawnSync(program!, args, {
        env: { PATH: process.env.PATH, PGPORT: String(server.port), PGPASSWORD: 'secret' },
      }).status === 0
    // What an interrupted first initialisation leaves: initdb makes the role, a later step the database.
    await server.query(`CREATE ROLE ${environment.POSTGRES_USER} SUPERUSER LOGIN PASSWORD 'secret'`)
    expect(isHealthy()).toBe(false)
    await server.createDatabase(environment.POSTGRES_DB!)
    expect(isHealthy()).toBe(true)
  },
)
