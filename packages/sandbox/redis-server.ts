/**
 * Finds a Redis server program: the one that `SLUICE_TEST_REDIS` names, so that the tests can be run on another
 * version; else `redis-server` or `valkey-server` from the PATH; as root, installed by apt when missing.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { FatalError } from '@sluice/runtime/errors.ts'

const PROGRAMS = ['redis-server', 'valkey-server']
/** Scripts with flags (`#!lua`) need version 7. */
const LEAST_MAJOR = 7

let found: { command: string } | undefined

/** @throws FatalError that says what to install */
export function redisServer(): { command: string } {
  found ??= { command: named() ?? onPath() ?? installByApt() }
  return found
}

function named(): string | undefined {
  const command = process.env.SLUICE_TEST_REDIS
  if (!command) return undefined
  if (runs(command)) return command
  throw new FatalError(`${command} is no Redis server that can be run: correct SLUICE_TEST_REDIS, or unset it`)
}

const runs = (program: string): boolean => spawnSync(program, ['--version']).status === 0

function onPath(): string | undefined {
  const command = PROGRAMS.find(runs)
  if (!command) return undefined
  const output = spawnSync(command, ['--version'], { encoding: 'utf8' }).stdout
  const major = Number(/v=(\d+)\./.exec(output)?.[1])
  if (major >= LEAST_MAJOR) return command
  throw new FatalError(
    `${command} is too old (${output.trim()}): Sluice needs Redis ${LEAST_MAJOR} or newer, or Valkey. ` +
      'Debian 11 and Ubuntu 22.04 have none: take it from https://packages.redis.io',
  )
}

function installByApt(): string {
  const hasApt = spawnSync('apt-get', ['--version']).status === 0
  if (process.getuid?.() !== 0 || !hasApt) {
    throw new FatalError(
      `neither ${PROGRAMS.join(' nor ')} is on the PATH. Install one (Redis ${LEAST_MAJOR} or newer, or Valkey); ` +
        'on Debian or Ubuntu: sudo apt-get install -y redis-server',
    )
  }
  process.stderr.write('sluice: installing redis-server with apt\n')
  withoutStartingServices(() => {
    apt('update', '-qq')
    apt('install', '-y', '-qq', '--no-install-recommends', 'redis-server')
  })
  const command = onPath()
  if (!command) throw new FatalError('apt-get installed redis-server, and it is still not on the PATH')
  return command
}

/** Runs an installation during which Debian's packages do not start their services: a policy file forbids it. */
function withoutStartingServices(install: () => void): void {
  const policy = '/usr/sbin/policy-rc.d'
  if (existsSync(policy)) return install()
  writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    install()
  } finally {
    rmSync(policy, { force: true })
  }
}

function apt(...args: string[]): void {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const { status } = spawnSync('apt-get', args, { env, stdio: ['ignore', 2, 2] })
  if (status !== 0) {
    throw new FatalError(
      `apt-get ${args.join(' ')} ended with ${status}; the lines above say why. Install redis-server by hand`,
    )
  }
}
