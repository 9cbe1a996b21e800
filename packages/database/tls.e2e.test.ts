/** A PostgreSQL that speaks TLS, with a certificate that only those trust who are given it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FatalError, TransientError } from '@sluice/runtime/errors.ts'
import { LOCALHOST_CERTIFICATE, LOCALHOST_KEY } from '@sluice/sandbox/certificate.ts'
import { startPostgres, type Postgres } from '@sluice/sandbox/postgres.ts'
import { expect, test as base } from 'vitest'
import { DatabasePool } from './pool.ts'

const test = base
  .extend('folder', async ({}, { onCleanup }) => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-tls-'))
    onCleanup(() => rmSync(folder, { recursive: true }))
    writeFileSync(join(folder, 'server.crt'), LOCALHOST_CERTIFICATE)
    return folder
  })
  .extend('server', async ({}, { onCleanup }) => {
    const server = await startPostgres({ fast: true })
    onCleanup(() => server[Symbol.asyncDispose]())
    await writeAsServer(server, 'server.crt', LOCALHOST_CERTIFICATE)
    await writeAsServer(server, 'server.key', LOCALHOST_KEY)
    await server.query('alter system set ssl = on')
    await server.query('select pg_reload_conf()')
    await expect.poll(() => server.query('show ssl')).toEqual([{ ssl: 'on' }])
    return server
  })

/**
 * The server takes a key only from a file of its own user that nobody else may read. Its programs run in its data
 * directory.
 */
async function writeAsServer(server: Postgres, name: string, text: string): Promise<void> {
  const lines = text.trim().replaceAll('\n', "', '")
  await server.query(`copy (select unnest(array['${lines}'])) to program 'umask 077; cat > ${name}'`)
}

async function isEncrypted(server: Postgres, query: string): Promise<boolean> {
  const url = new URL(server.url())
  url.hostname = 'localhost'
  await using db = new DatabasePool({ url: `${url.href}?${query}`, schema: 'public', size: 1, role: 'test' })
  const { rows } = await db.query<{ ssl: boolean }>('select ssl from pg_stat_ssl where pid = pg_backend_pid()')
  return rows[0]!.ssl
}

test('O2 a certificate that is not trusted is told with what to do, and waited for', async ({ server }) => {
  const error: unknown = await isEncrypted(server, 'sslmode=verify-full').catch((e: unknown) => e)
  expect(error).toBeInstanceOf(TransientError)
  expect((error as Error).message).toMatch(/self-signed certificate.*NODE_EXTRA_CA_CERTS.*sslrootcert/)
})

test('O2 a file of certificates that cannot be read is named, and not waited for', async ({ server, folder }) => {
  const missing = join(folder, 'missing.pem')
  const error: unknown = await isEncrypted(server, `sslmode=verify-full&sslrootcert=${missing}`).catch(
    (e: unknown) => e,
  )
  expect(error).toBeInstanceOf(FatalError)
  expect((error as Error).message).toMatch(new RegExp(`${missing}.*DB_POSTGRES_URL`))
})

test('a certificate that DB_POSTGRES_URL names is trusted', async ({ server, folder }) => {
  const trusted = `sslmode=verify-full&sslrootcert=${join(folder, 'server.crt')}`
  expect([await isEncrypted(server, trusted), await isEncrypted(server, 'sslmode=no-verify')]).toEqual([true, true])
})
