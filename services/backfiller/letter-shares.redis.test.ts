/** The dead letters of one owner leave room for those of all others, and what finds none is counted. */
import { expect, test as base } from '@sluice/sandbox/fixtures.ts'
import { setAsideKey } from '@sluice/streams/backfill-queue.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { bury, deadLetterStream } from '@sluice/streams/dead-letters.ts'
import { blamedFor, LetterShares } from './letter-shares.ts'

const STREAM = 's'
/** Of these one owner may have an eighth: ten. */
const LETTERS = 80

const test = base.extend('redis', async ({ redisUrl }, { onCleanup }): Promise<Redis> => {
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  onCleanup(() => redis.destroy())
  await redis.xGroupCreate(STREAM, 'g', '0', { MKSTREAM: true })
  return redis
})

/** Gives a repository up, as the backfiller does. Returns how many of its host are set aside; 0: it has a letter. */
async function giveUp(redis: Redis, did: string, host: string): Promise<number> {
  const shares = new LetterShares(redis, { lettersMax: LETTERS })
  const blamed = blamedFor({ did, host: '', rev: '' }, host)
  const setAside = await shares.ask(STREAM, did, blamed, 'export-bad-signature')
  if (setAside > 0) return setAside
  const fields = { repo: JSON.stringify({ did, host, rev: '' }) }
  const entryId = await redis.xAdd(STREAM, '*', fields)
  const letter = { stream: STREAM, group: 'g', entryId, fields, message: '', attempts: 5, key: did }
  await bury(redis, { ...letter, reason: 'export-bad-signature' })
  return 0
}

const letters = (redis: Redis): Promise<number> => redis.xLen(deadLetterStream(STREAM))

test('all hosts of one owner together have an eighth of the room, and what finds none is counted by host and reason', async ({
  redis,
}) => {
  const came: number[] = []
  for (let i = 0; i < 13; i++) came.push(await giveUp(redis, `did:plc:${i}`, `h${i % 2}.evil.example`))
  expect(came).toEqual([...Array<number>(10).fill(0), 1, 1, 2])
  expect(await letters(redis)).toBe(10)
  expect(await redis.hGetAll(setAsideKey(STREAM))).toEqual({
    'h0.evil.example export-bad-signature': '2',
    'h1.evil.example export-bad-signature': '1',
  })
  // One that has a letter gets a newer one in its place.
  expect(await giveUp(redis, 'did:plc:3', 'h1.evil.example')).toBe(0)
  expect(await letters(redis)).toBe(10)
})

test('many such owners never take all of the room: whoever comes after them has a letter', async ({ redis }) => {
  for (let owner = 0; owner < 12; owner++)
    for (let i = 0; i < 12; i++) await giveUp(redis, `did:plc:${owner}-${i}`, `evil${owner}.example`)
  const taken = await letters(redis)
  expect(taken).toBeGreaterThan(40)
  expect(taken).toBeLessThan(LETTERS - 5)
  expect(await giveUp(redis, 'did:plc:honest', 'good.example')).toBe(0)
})

test('what an operator has put back or dropped makes room for others of the owner', async ({ redis }) => {
  const dids = Array.from({ length: 11 }, (_, i) => `did:plc:${i}`)
  for (const did of dids) await giveUp(redis, did, 'evil.example')
  const [first] = (await redis.xRange(deadLetterStream(STREAM), '-', '+', { COUNT: 1 }))!
  await redis.xDel(deadLetterStream(STREAM), first!.id)
  expect(await giveUp(redis, 'did:plc:another', 'evil.example')).toBe(0)
  expect(await giveUp(redis, 'did:plc:one-more', 'evil.example')).toBeGreaterThan(0)
  await redis.del(deadLetterStream(STREAM))
  expect(await giveUp(redis, 'did:plc:one-more', 'evil.example')).toBe(0)
})

test('of the hosts that strangers name, some are counted by their names', async ({ redis }) => {
  for (let i = 0; i < 10; i++) await giveUp(redis, `did:plc:${i}`, 'evil.example')
  const names = Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`h${i}.other.example stale`, '1']))
  await redis.hSet(setAsideKey(STREAM), names)
  expect(await giveUp(redis, 'did:plc:more', 'a.evil.example')).toBe(1)
  expect(await giveUp(redis, 'did:plc:most', 'b.evil.example')).toBe(2)
  expect(await redis.hLen(setAsideKey(STREAM))).toBe(1_001)
})

test('who is to blame: the host that was asked, else that of the document, else who listed the account', () => {
  const entry = { did: 'did:plc:a', host: 'relay.example', rev: '' }
  expect(blamedFor(entry, 'a.pds.example:8443')).toEqual({ host: 'a.pds.example:8443', owner: 'pds.example' })
  expect(blamedFor(entry)).toEqual({ host: 'relay.example', owner: 'lists relay.example' })
  expect(blamedFor({ ...entry, did: 'did:web:a.b.example' })).toEqual({ host: 'a.b.example', owner: 'b.example' })
})
