import { spawn } from 'node:child_process'
import { createClient } from 'redis'
import { Client } from 'pg'
import { expect, test } from '@sluice/sandbox/fixtures.ts'

test('leaves a connection to PostgreSQL', async ({ database }) => {
  const client = new Client({ connectionString: database, application_name: 'leaky' })
  client.on('error', () => {})
  await client.connect()
})

test('leaves a connection to Redis', async ({ redisUrl }) => {
  const client = createClient({ url: redisUrl })
  client.on('error', () => {})
  await client.connect()
})

test('leaves a process', () => {
  expect(spawn('sleep', ['300']).pid).toBeDefined()
})

test('leaves nothing', async ({ database, redisUrl }) => {
  const postgres = new Client({ connectionString: database })
  await postgres.connect()
  const redis = createClient({ url: redisUrl })
  await redis.connect()
  await redis.close()
  await postgres.end()
})

test.skip('is skipped', () => {
  expect(1).toBe(2)
})
