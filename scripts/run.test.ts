/**
 * How the programs are started on a machine that has not much: a copy of run.mjs in a folder of its own, with a PATH of
 * its own.
 */
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { root } from './roles.ts'

const COMPILERS = ['python3', 'make', 'g++']

let checkout = ''
beforeEach(() => {
  checkout = mkdtempSync(join(tmpdir(), 'sluice-run-'))
  write('scripts/run.mjs', readFileSync(join(root, 'scripts/run.mjs'), 'utf8'))
})
afterEach(() => rmSync(checkout, { recursive: true }))

test.each([
  ['packages/sandbox/demo.ts --once', ['redis-server']],
  ['packages/sandbox/start.ts', ['redis-server']],
  ['packages/simulator/simulate.ts --seed 1', ['redis-server']],
  ['scripts/test.ts', ['redis-server']],
  ['scripts/test.ts --checks-only', []],
  ['scripts/test.ts --project unit', []],
  ['packages/cli/main.ts doctor', []],
  ['--install-only', []],
])('%s: what npm cannot bring is named at once, before anything is fetched', (command, stores) => {
  const { status, stderr } = start(command.split(' '), machineWith([]))
  const missing = [...COMPILERS, ...stores]
  expect(stderr).toContain(`missing: ${missing.join(', ')}`)
  expect(stderr).toContain(`apt-get install -y ${missing.join(' ')}\n`)
  expect(stderr.includes('edis')).toBe(stores.length > 0)
  expect(status).toBe(1)
  expect(existsSync(join(checkout, '.toolchain'))).toBe(false)
})

/** Whose resolver has this answer for localhost, in place of the machine's. */
function resolving(answer: string): Record<string, string> {
  const code = `import dns from 'node:dns'
    import { syncBuiltinESMExports } from 'node:module'
    dns.promises.lookup = async (name) => { if (name === 'localhost') ${answer} }
    syncBuiltinESMExports()`
  return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}` }
}

describe('a machine that does not know localhost as 127.0.0.1', () => {
  const machines = {
    'has no such name': resolving(
      `throw Object.assign(new Error('getaddrinfo ENOTFOUND localhost'), { code: 'ENOTFOUND' })`,
    ),
    'has it for IPv6 only': resolving(`return [{ address: '::1', family: 6 }]`),
  }
  const all = [...COMPILERS, 'redis-server']

  test.each(Object.entries(machines))('%s: told with its mend, before anything is fetched', (_, env) => {
    for (const command of ['packages/sandbox/demo.ts', 'scripts/test.ts', 'packages/simulator/simulate.ts']) {
      const { status, stderr } = start([command], machineWith(all), env)
      expect(stderr).toContain('localhost')
      expect(stderr).toContain(`echo '127.0.0.1 localhost' | sudo tee -a /etc/hosts\n`)
      expect(status).toBe(1)
      expect(existsSync(join(checkout, '.toolchain'))).toBe(false)
    }
  })

  test('is told of it together with what it must install', () => {
    const { stderr } = start(['packages/sandbox/demo.ts'], machineWith([]), machines['has no such name'])
    expect(stderr).toContain(`missing: ${all.join(', ')}`)
    expect(stderr).toContain('/etc/hosts')
  })

  test('root is told before apt installs anything', () => {
    const path = machineWith(['redis-server'])
    const asked = join(checkout, 'apt-was-asked')
    writeFileSync(join(path, 'apt-get'), `#!/bin/sh\necho > ${asked}\n`, { mode: 0o755 })
    const isRoot = `--import=data:text/javascript,${encodeURIComponent('process.getuid = () => 0')}`
    const { NODE_OPTIONS = '', ...rest } = machines['has no such name']
    const { status, stderr } = start(['packages/sandbox/demo.ts'], path, {
      ...rest,
      NODE_OPTIONS: `${NODE_OPTIONS} ${isRoot}`,
    })
    expect({ status, stderr }).toMatchObject({ status: 1, stderr: expect.stringContaining('/etc/hosts') as string })
    expect(existsSync(asked)).toBe(false)
  })

  test.each(['packages/sandbox/start.ts', 'scripts/test.ts --checks-only', 'packages/cli/main.ts doctor'])(
    'does not need it for %s',
    (command) => {
      const { stderr } = start(command.split(' '), machineWith([]), machines['has no such name'])
      expect(stderr).toContain('missing: ')
      expect(stderr).not.toContain('localhost')
    },
  )
})

test('a Redis, a Valkey or one that is named will do', () => {
  const named = { SLUICE_TEST_REDIS: '/opt/redis/bin/redis-server' }
  for (const [programs, env] of [[['redis-server']], [['valkey-server']], [[], named]] as const) {
    const { stderr } = start(['packages/sandbox/demo.ts'], machineWith(programs), env)
    expect(stderr).toContain(`missing: ${COMPILERS.join(', ')}. `)
  }
})

test("a binding is built by pnpm's own node-gyp: Debian's, which its npm names, links it to the library of Debian's Node", () => {
  const node = installToolchain()
  const debian = { npm_config_node_gyp: '/usr/share/nodejs/node-gyp/bin/node-gyp.js' }
  const { status } = start(['--install-only'], machineWith(COMPILERS), debian)
  expect(status).toBe(0)
  const given = JSON.parse(readFileSync(join(checkout, 'environment.json'), 'utf8')) as Record<string, string>
  expect(given.npm_config_node_gyp).toBeUndefined()
  expect(given.npm_config_nodedir).toBe(dirname(dirname(node)))
})

test.each([
  ['in .toolchain/', {}, '.toolchain/compile-cache'],
  ['where the user says', { NODE_COMPILE_CACHE: 'elsewhere' }, 'elsewhere'],
])('what Node has compiled is kept %s', (_, env, folder) => {
  installToolchain()
  write('package.json', '{ "type": "module" }')
  write('program.ts', `const text: string = 'ran'\nprocess.stdout.write(text)`)
  const { status, stdout, stderr } = start(['program.ts'], machineWith(COMPILERS), env)
  expect({ status, stdout }, stderr).toEqual({ status: 0, stdout: 'ran' })
  expect(readdirSync(join(checkout, folder))).toHaveLength(1)
})

/**
 * Puts this Node, and a pnpm that only writes down its environment, where an install would have put them. Returns the
 * path of Node.
 */
function installToolchain(): string {
  const platform = `node-${process.platform}-${process.arch}`
  const pins = readFileSync(join(root, 'scripts/run.mjs'), 'utf8')
  const pin = (name: string): string => new RegExp(`const ${name} = '(.+)'`).exec(pins)![1]!
  const node = join(checkout, '.toolchain/node_modules', platform, 'bin/node')
  mkdirSync(dirname(node), { recursive: true })
  symlinkSync(process.execPath, node)
  write('.toolchain/pins', `${platform}@${pin('NODE_VERSION')} pnpm@${pin('PNPM_VERSION')}`)
  write(
    '.toolchain/node_modules/pnpm/bin/pnpm.mjs',
    `import { writeFileSync } from 'node:fs'\nwriteFileSync('environment.json', JSON.stringify(process.env))`,
  )
  mkdirSync(join(checkout, 'node_modules'))
  return node
}

/**
 * A PATH with a shell and these programs, of which only the names count. There is no apt on it, so root is treated like
 * anyone.
 */
function machineWith(programs: readonly string[]): string {
  const bin = mkdtempSync(join(checkout, 'bin-'))
  symlinkSync('/bin/sh', join(bin, 'sh'))
  for (const name of programs) copyFileSync('/bin/sh', join(bin, name))
  return bin
}

function start(args: readonly string[], path: string, env: Record<string, string> = {}) {
  return spawnSync(process.execPath, [join(checkout, 'scripts/run.mjs'), ...args], {
    cwd: checkout,
    env: { PATH: path, HOME: checkout, ...env },
    encoding: 'utf8',
  })
}

function write(path: string, text: string): void {
  mkdirSync(dirname(join(checkout, path)), { recursive: true })
  writeFileSync(join(checkout, path), text)
}
