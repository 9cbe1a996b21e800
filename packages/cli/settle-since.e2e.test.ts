/**
 * After a failover PostgreSQL may have a batch without what settling made of it, while Redis knows it as done: nothing
 * brings it again. `sluice settle since` has all of that made again.
 */
import { SEQ_BACKFILL, type CreateEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { applyBatch, type Index } from '@sluice/indexing/apply-batch.ts'
import { indexOn } from '@sluice/indexing/testing/index-on.ts'
import { settleAll } from '@sluice/indexing/testing/settle-all.ts'
import { differences, snapshot } from '@sluice/indexing/testing/snapshot.ts'
import { ref, Story } from '@sluice/indexing/testing/story.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { moveChain, UNKNOWN_CHAIN } from '@sluice/streams/chain-state.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { runCli } from './testing/run.ts'

/** Applies the event, and has its settling fail for good: no row of a post can be updated, and it is not repeated. */
async function applyUnsettled(index: Index, event: StreamEvent): Promise<void> {
  const { db } = index
  await db.query(`create or replace function full_disk() returns trigger language plpgsql as $$ begin raise exception 'full' using errcode = '53100'; end $$`) // prettier-ignore
  await db.query('create trigger full_disk before update on post for each row execute function full_disk()')
  await expect(applyBatch(index, [event])).rejects.toBeInstanceOf(TransientError)
  await db.query('drop trigger full_disk on post')
}

function gate(story: Story, name: string, post: CreateEvent, kind: 'threadgate' | 'postgate'): CreateEvent {
  const rules = kind === 'threadgate' ? { allow: [] } : { embeddingRules: [{ $type: 'app.bsky.feed.postgate#disableRule' }] } // prettier-ignore
  return story.put(name, `app.bsky.feed.${kind}`, { post: ref(post).uri, ...rules }, post.rkey)
}

test('what settling made, and PostgreSQL lost together with the proof that it was to be done, is made again: marks, verdicts, notifications', async ({
  database,
  otherDatabase,
  redisUrl,
}) => {
  const story = new Story()
  const old = [story.post('eve', 'long ago'), story.follow('eve', 'ann')]
  // An export brings it later, at a head from before.
  const early = story.post('gus', 'early')
  const exported = { ...gate(story, 'gus', early, 'postgate'), seq: SEQ_BACKFILL, time: '2026-06-02T00:00:00.000Z' }
  const since = new Date(Date.parse(story.now) + 500).toISOString()
  const root = story.post('ann', 'root')
  const gates = [gate(story, 'ann', root, 'threadgate'), gate(story, 'ann', root, 'postgate')]
  const dependent = [story.reply('bob', root), story.quote('cat', root)]
  const late = story.reply('dan', root)
  const below = story.reply('bob', late)
  const other = story.post('fay', 'is deleted')
  const deletion = story.delete(other)
  const toOther = story.reply('bob', other)
  const lately = [root, ...gates, ...dependent, late, below, other, deletion, toOther, story.post('gus', 'lately')]

  await using natural = indexOn(otherDatabase)
  for (const event of [...old, early, exported, ...lately]) await applyBatch(natural, [event])
  await using index = indexOn(database)
  for (const event of [...old, early, root, ...dependent, below, other, toOther, lately.at(-1)!])
    await applyBatch(index, [event])
  for (const event of [exported, ...gates, late, deletion]) await applyUnsettled(index, event)
  const lost = differences(await snapshot(natural.db), await snapshot(index.db))
  for (const table of ['post', 'notification', 'post_agg']) expect(lost.some((line) => line.startsWith(`${table} `)), `${table}\n${lost.join('\n')}`).toBe(true) // prettier-ignore

  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    for (const { did, rev } of [...old, ...lately]) {
      const { key, field, to } = moveChain(did, undefined, { ...UNKNOWN_CHAIN, rev, data: `\x01\x71\x12\x20${'x'.repeat(16)}` }) // prettier-ignore
      await redis.hSet(key, field, to)
    }
  } finally {
    redis.destroy()
  }
  const env = { REDIS_URL: redisUrl, DB_POSTGRES_URL: database }
  expect((await runCli(['settle', 'since', 'yesterday'], env)).code).toBe(2)
  const said = await runCli(['settle', 'since', since, '--json'], env)
  expect(said).toMatchObject({ code: 0, stderr: '' })
  expect(JSON.parse(said.stdout)).toEqual({ since, accounts: 6, records: 11, complete: true })
  expect(await settleAll(index)).toBe(11)
  expect(differences(await snapshot(natural.db), await snapshot(index.db))).toEqual([])

  await index.db.query(`insert into bulk_load (id, phase, "startedAt") values (1, 'loading', '')`)
  const refused = await runCli(['settle', 'since', since], env)
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('a first load is under way') as string })
})
