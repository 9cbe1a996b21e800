/**
 * As root, with a umask that keeps others out and a private TMPDIR: what PostgreSQL needs is where its user can reach
 * it.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, vi } from 'vitest'
import { expect, test } from './fixtures.ts'
import { dataDirectory, findHome, postgresHome, reachableCopy, throwawayDirectory } from './postgres-home.ts'

describe.skipIf(process.getuid?.() !== 0)('under umask 077', () => {
  let folder: string
  let umask: number
  const reachable = (): string => join(folder, 'reachable')
  const user = () => postgresHome().user!

  beforeEach(() => {
    // Whatever TMPDIR is: here everyone can enter.
    folder = mkdtempSync('/tmp/sluice-home-')
    chmodSync(folder, 0o755)
    umask = process.umask(0o077)
    mkdirSync(join(folder, 'private'))
  })

  afterEach(() => {
    process.umask(umask)
    vi.unstubAllEnvs()
    rmSync(folder, { recursive: true })
  })

  /** What the program says to PostgreSQL's user. */
  function said(command: string, ...args: string[]): string {
    return spawnSync(command, args, { ...user(), cwd: '/', encoding: 'utf8' }).stdout
  }

  /** A PostgreSQL that is far smaller, out of the user's reach. */
  function binaries(): string {
    const native = join(folder, 'private', 'native')
    for (const part of ['bin', 'lib']) mkdirSync(join(native, part), { recursive: true })
    writeFileSync(join(native, 'bin', 'postgres'), '#!/bin/sh\necho runs\n', { mode: 0o700 })
    writeFileSync(join(native, 'lib', 'library'), 'is read')
    return native
  }

  test('the copy of the binaries can be read and run, and one that was left closed is opened', () => {
    const native = binaries()
    expect(said(join(native, 'bin', 'postgres'))).not.toBe('runs\n')
    const copy = join(reachable(), 'postgresql-1')
    expect(reachableCopy(native, copy, user())).toBe(copy)
    expect(said(join(copy, 'bin', 'postgres'))).toBe('runs\n')
    expect(said('cat', join(copy, 'lib', 'library'))).toBe('is read')
    for (const part of ['bin', 'bin/postgres', 'lib', 'lib/library', '.']) chmodSync(join(copy, part), 0o700)
    reachableCopy(native, copy, user())
    expect(said(join(copy, 'bin', 'postgres'))).toBe('runs\n')
    expect(said('cat', join(copy, 'lib', 'library'))).toBe('is read')
  })

  test('a copy that the user cannot run is not used', () => {
    const native = binaries()
    const copy = join(folder, 'private', 'below', 'postgresql-1')
    expect(() => reachableCopy(native, copy, user())).toThrow(/cannot run .*may that user enter each folder/)
  })

  test('data live where the user can write, those that are kept and those that are thrown away', () => {
    vi.stubEnv('TMPDIR', join(folder, 'private'))
    const directories = [
      throwawayDirectory(user(), reachable()),
      dataDirectory(join(folder, 'private', 'kept', 'data'), user(), reachable()),
    ]
    for (const directory of directories) {
      expect(directory.startsWith(`${reachable()}/`)).toBe(true)
      expect(said('sh', '-c', `echo written > ${directory}/file && cat ${directory}/file`)).toBe('written\n')
    }
  })
})

test('programs that are named are taken, with the version that they report, and never replaced by others', () => {
  const folder = mkdtempSync('/tmp/sluice-home-')
  try {
    chmodSync(folder, 0o755)
    writeFileSync(join(folder, 'postgres'), '#!/bin/sh\necho "postgres (PostgreSQL) 14.7 (Debian 14.7-1)"\n', {
      mode: 0o755,
    })
    expect(findHome(folder)).toMatchObject({ bin: folder, major: 14 })
    chmodSync(folder, 0o700)
    if (process.getuid?.() === 0)
      expect(() => findHome(folder)).toThrow(/no PostgreSQL that user \d+ can run: correct SLUICE_TEST_POSTGRES_BIN/)
    expect(() => findHome('/nowhere')).toThrow('/nowhere/postgres is no PostgreSQL')
  } finally {
    rmSync(folder, { recursive: true })
  }
})
