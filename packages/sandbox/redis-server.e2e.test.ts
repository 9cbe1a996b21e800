import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { vi } from 'vitest'
import { expect, test } from './fixtures.ts'
import { redisServer } from './redis-server.ts'

test('a Redis that is too old is named with its version, and where a newer one is to be had', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-old-redis-'))
  try {
    const program = join(folder, 'redis-server')
    writeFileSync(program, '#!/bin/sh\necho "Redis server v=6.0.16 sha=00000000:0"\n')
    chmodSync(program, 0o755)
    vi.stubEnv('PATH', folder)
    vi.stubEnv('SLUICE_TEST_REDIS', '')
    expect(redisServer).toThrow(/too old \(Redis server v=6\.0\.16 .*https:\/\/packages\.redis\.io/)
  } finally {
    vi.unstubAllEnvs()
    rmSync(folder, { recursive: true })
  }
})

test('a server that is named and is not there is not replaced by another', () => {
  vi.stubEnv('SLUICE_TEST_REDIS', '/nowhere/valkey-server')
  try {
    expect(redisServer).toThrow('/nowhere/valkey-server is no Redis server that can be run: correct SLUICE_TEST_REDIS')
  } finally {
    vi.unstubAllEnvs()
  }
})
