/**
 * What the engine makes of small stories, in figures and names that are written out here: nothing is taken from the
 * plugins.
 */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { uriOf, type AccountEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test as base } from '@sluice/sandbox/fixtures.ts'
import { describe } from 'vitest'
import { applyBatch, type Index } from './apply-batch.ts'
import { KnownActors } from './own.ts'
import { ref, Story } from './testing/story.ts'

class Engine {
  readonly db: DatabasePool
  readonly #index: Index

  constructor(url: string) {
    this.db = new DatabasePool({ url, schema: 'bsky', size: 3, role: 'test' })
    this.#index = {
      db: this.db,
      collections: new CollectionSet(collections, ['com.example.*']),
      actors: new KnownActors(),
    }
  }

  /** Each list is a batch. */
  async apply(...batches: StreamEvent[][]): Promise<void> {
    for (const batch of batches) await applyBatch(this.#index, batch)
  }

  /** One column of what a statement finds, as text. */
  async list(text: string, ...values: string[]): Promise<string[]> {
    const { rows } = await this.db.query<{ line: string }>(text, values)
    return rows.map(({ line }) => line)
  }

  async postCounts(uri: string): Promise<string[]> {
    return this.list(
      `select concat_ws(' ', "likeCount", "repostCount", "replyCount", "quoteCount") as line from post_agg where uri = $1`,
      uri,
    )
  }

  async profileCounts(did: string): Promise<string[]> {
    return this.list(
      `select concat_ws(' ', "followersCount", "followsCount", "postsCount") as line from profile_agg where did = $1`,
      did,
    )
  }

  /** `who why author`, by name. */
  async notifications(): Promise<string[]> {
    return this.list(`
      select concat_ws(' ', rtrim(substr(did, 9), '2'), reason, rtrim(substr(author, 9), '2')) as line
      from notification order by 1`)
  }
}

const test = base
  .extend('engine', async ({ database }, { onCleanup }) => {
    const engine = new Engine(database)
    onCleanup(() => engine.db.close())
    return engine
  })
  .extend('story', async ({}) => new Story())

describe('counters', () => {
  test('say how often a post was liked, reposted, answered and quoted, and what each account has', async ({
    engine,
    story,
  }) => {
    const post = story.post('ann', 'hello')
    const uri = uriOf(post)
    const like = story.like('bob', post)
    const events = [post, like, story.like('cat', post), story.like('dan', post), story.repost('bob', post)]
    events.push(story.reply('bob', post), story.reply('cat', post), story.quote('bob', post))
    events.push(story.follow('bob', 'ann'), story.follow('cat', 'ann'), story.follow('ann', 'bob'))
    await engine.apply(events)
    expect(await engine.postCounts(uri)).toEqual(['3 1 2 1'])
    expect(await engine.profileCounts(story.did('ann'))).toEqual(['2 1 1'])
    expect(await engine.profileCounts(story.did('bob'))).toEqual(['1 1 2'])
    await engine.apply([story.delete(like), story.delete(events[7]!), story.delete(events[9]!)])
    expect(await engine.postCounts(uri)).toEqual(['2 1 2 0'])
    expect(await engine.profileCounts(story.did('ann'))).toEqual(['1 1 1'])
  })

  test('a reply that the gate forbids does not count; those that it lets in do', async ({ engine, story }) => {
    const post = story.post('ann', 'closed')
    const gate = story.put('ann', 'app.bsky.feed.threadgate', { post: uriOf(post), allow: [] }, post.rkey)
    await engine.apply([post, gate, story.reply('bob', post), story.reply('cat', post), story.reply('ann', post)])
    expect(await engine.postCounts(uriOf(post))).toEqual(['0 0 1 0'])
  })

  test('a second like of the same post does not count, nor when the first goes', async ({ engine, story }) => {
    const post = story.post('ann', 'hello')
    const [first, second] = [story.like('bob', post), story.like('bob', post)]
    await engine.apply([post], [second], [first])
    expect(await engine.postCounts(uriOf(post))).toEqual(['1 0 0 0'])
    await engine.apply([story.delete(first)])
    expect(await engine.postCounts(uriOf(post))).toEqual(['1 0 0 0'])
    await engine.apply([story.delete(second)])
    expect(await engine.postCounts(uriOf(post))).toEqual(['0 0 0 0'])
  })

  test('lists, feeds and starter packs count in the AppView’s own statement, in whichever batch other things came and went', async ({
    engine,
    story,
  }) => {
    const [ann, bob] = ['ann', 'bob'].map((name) => {
      const post = story.post(name, 'soon gone')
      const list = { name: 'x', purpose: 'app.bsky.graph.defs#curatelist' }
      const made = [
        post,
        story.put(name, 'app.bsky.graph.list', list),
        story.put(name, 'app.bsky.feed.generator', { did: 'did:web:feed.test', displayName: 'x' }),
        story.put(name, 'app.bsky.graph.starterpack', {
          name: 'x',
          list: `at://${story.did(name)}/app.bsky.graph.list/1`,
        }),
      ]
      return { made, gone: story.delete(post) }
    })
    await engine.apply([...ann!.made, ann!.gone], bob!.made, [bob!.gone])
    // As in routes/interactions.js, `getCountsForUsers`.
    const counts = `
      select concat_ws(' ', "postsCount", (select count(*) from feed_generator where creator = profile_agg.did),
        (select count(*) from list where creator = profile_agg.did), (select count(*) from starter_pack where creator = profile_agg.did)) as line
      from profile_agg where did = $1`
    for (const name of ['ann', 'bob']) expect(await engine.list(counts, story.did(name))).toEqual(['0 1 1 1'])
  })
})

describe('notifications', () => {
  test('of every kind, each to whom it concerns', async ({ engine, story }) => {
    const mention = {
      index: { byteStart: 0, byteEnd: 1 },
      features: [{ $type: 'app.bsky.richtext.facet#mention', did: story.did('dan') }],
    }
    const post = story.post('ann', 'hello', { facets: [mention] })
    const repost = story.repost('bob', post)
    const via = { via: ref(repost) }
    await engine.apply([
      post,
      repost,
      story.like('cat', post, via),
      story.repost('dan', post, via),
      story.reply('cat', post),
    ])
    await engine.apply([story.quote('eve', post), story.follow('eve', 'ann')])
    const pack = story.put('ann', 'app.bsky.graph.starterpack', {
      name: 'x',
      list: `at://${story.did('ann')}/app.bsky.graph.list/1`,
    })
    const profile = story.put('fay', 'app.bsky.actor.profile', { joinedViaStarterPack: ref(pack) }, 'self')
    const verified = story.put('ann', 'app.bsky.graph.verification', {
      subject: story.did('eve'),
      handle: 'eve.test',
      displayName: 'E',
    })
    await engine.apply([pack, profile, verified], [story.delete(verified)])
    expect(await engine.notifications()).toEqual([
      'ann follow eve',
      'ann like cat',
      'ann quote eve',
      'ann reply cat',
      'ann repost bob',
      'ann repost dan',
      'ann starterpack-joined fay',
      'bob like-via-repost cat',
      'bob repost-via-repost dan',
      'dan mention ann',
      'eve unverified ann',
      'eve verified ann',
    ])
  })

  test('nobody hears of their own doing: not of a reply, not of what they found through their own repost', async ({
    engine,
    story,
  }) => {
    const [own, other] = [story.post('ann', 'mine'), story.post('bob', 'another')]
    const repost = story.repost('ann', other)
    const via = { via: ref(repost) }
    await engine.apply([own, other, repost, story.reply('ann', own), story.like('ann', own), story.quote('ann', own)])
    await engine.apply([story.like('ann', other, via)])
    expect(await engine.notifications()).toEqual(['bob like ann', 'bob repost ann'])
  })

  test('a reply is told to the authors of four levels above it, and no more', async ({ engine, story }) => {
    const thread = [story.post('ann', 'root')]
    for (const name of ['bob', 'cat', 'dan', 'eve', 'fay']) thread.push(story.reply(name, thread.at(-1)!))
    await engine.apply(thread)
    const ofFay = (await engine.notifications()).filter((line) => line.endsWith(' fay'))
    expect(ofFay).toEqual(['bob reply fay', 'cat reply fay', 'dan reply fay', 'eve reply fay'])
  })

  test('whoever is mentioned and answered hears once, for the first reason', async ({ engine, story }) => {
    const post = story.post('ann', 'hello')
    const mention = {
      index: { byteStart: 0, byteEnd: 1 },
      features: [{ $type: 'app.bsky.richtext.facet#mention', did: story.did('ann') }],
    }
    await engine.apply([post, story.reply('bob', post, { facets: [mention] })])
    expect(await engine.notifications()).toEqual(['ann mention bob'])
  })

  test('who muted a thread hears nothing of it, and of others as before', async ({ engine, story }) => {
    const [quiet, loud] = [story.post('ann', 'quiet'), story.post('ann', 'loud')]
    await engine.apply([quiet, loud])
    await engine.db.query(`insert into thread_mute ("rootUri", "mutedByDid", "createdAt") values ($1, $2, $3)`, [
      uriOf(quiet),
      story.did('ann'),
      story.now,
    ])
    const reply = story.reply('bob', quiet)
    await engine.apply([reply, story.reply('cat', reply), story.like('bob', quiet), story.like('bob', loud)])
    expect(await engine.notifications()).toEqual(['ann like bob', 'bob reply cat'])
  })

  test('who muted a thread hears nothing of what was done to a post of it, though that post is gone by now', async ({
    engine,
    story,
  }) => {
    const quiet = story.post('bob', 'quiet')
    const mine = story.reply('ann', quiet)
    await engine.apply([quiet, mine])
    await engine.db.query(`insert into thread_mute ("rootUri", "mutedByDid", "createdAt") values ($1, $2, $3)`, [
      uriOf(quiet),
      story.did('ann'),
      story.now,
    ])
    const like = story.like('cat', mine)
    await engine.apply([like, story.delete(mine)])
    expect((await engine.notifications()).filter((line) => line.startsWith('ann'))).toEqual([])
  })

  test('what was deleted and written anew in one batch tells nobody of a deletion', async ({ engine, story }) => {
    const words = { subject: story.did('eve'), handle: 'eve.test', displayName: 'E' }
    const first = story.put('ann', 'app.bsky.graph.verification', words)
    const batch = [first, story.delete(first), story.put('ann', 'app.bsky.graph.verification', words, first.rkey)]
    await engine.apply(batch)
    expect(await engine.notifications()).toEqual(['eve verified ann'])
  })

  test('a deleted record’s are gone with it', async ({ engine, story }) => {
    const post = story.post('ann', 'hello')
    const like = story.like('bob', post)
    await engine.apply([post, like], [story.delete(like)])
    expect(await engine.notifications()).toEqual([])
  })
})

describe('accounts', () => {
  const account = (story: Story, time: string, active: boolean, status?: string): AccountEvent => ({
    type: 'account',
    seq: 1,
    time,
    did: story.did('ann'),
    active,
    ...(status === undefined ? {} : { status }),
  })
  const status = `select coalesce("upstreamStatus", 'visible') as line from actor`

  test('A1: active decides, status explains, unknown ones are kept', async ({ engine, story }) => {
    const at = (minute: number): string => `2026-06-01T00:0${minute}:00.000Z`
    await engine.apply([account(story, at(1), false, 'takendown')])
    expect(await engine.list(status)).toEqual(['takendown'])
    await engine.apply([account(story, at(2), true, 'desynchronized')])
    expect(await engine.list(status)).toEqual(['visible'])
    await engine.apply([account(story, at(3), false, 'unheard-of')])
    expect(await engine.list(status)).toEqual(['unheard-of'])
    await engine.apply([account(story, at(4), false)])
    expect(await engine.list(status)).toEqual(['deactivated'])
  })

  test('A3: what happened earlier and arrives later changes nothing, in one batch or several', async ({
    engine,
    story,
  }) => {
    const earlier = account(story, '2026-06-01T00:01:00.000Z', false, 'deactivated')
    const later = account(story, '2026-06-01T00:02:00.000Z', true)
    await engine.apply([later], [earlier])
    expect(await engine.list(status)).toEqual(['visible'])
    await engine.apply([later, earlier])
    expect(await engine.list(status)).toEqual(['visible'])
  })

  test('the commit last seen never moves back', async ({ engine, story }) => {
    const [older, newer] = [story.post('ann', '1'), story.post('ann', '2')]
    await engine.apply([newer, older], [older])
    expect(await engine.list(`select "repoRev" || ' ' || "commitCid" as line from actor_sync`)).toEqual([
      `${newer.rev} ${newer.commit}`,
    ])
  })
})

describe('collections without a plugin', () => {
  test('are stored, replaced and deleted by the same rule', async ({ engine, story }) => {
    const note = story.put('ann', 'com.example.note', { text: 'x' })
    const edited = story.put('ann', 'com.example.note', { text: 'y' }, note.rkey)
    await engine.apply([edited], [note])
    expect(await engine.list('select json as line from record')).toEqual([JSON.stringify(edited.record)])
    await engine.apply([story.delete(edited)], [edited])
    expect(await engine.list('select json as line from record')).toEqual([])
  })

  test('V5: what cannot be a record is refused, its siblings are stored', async ({ engine, story }) => {
    const impossible = story.put('ann', 'com.example.note', { size: 1.5 })
    const half = story.put('ann', 'chat.bsky.actor.declaration', { allowIncoming: '\ud800' }, 'self')
    const good = story.put('ann', 'com.example.note', { size: 1 })
    await engine.apply([impossible, half, good])
    expect(await engine.list('select uri as line from record')).toEqual([uriOf(good)])
  })

  test('those that nobody asked for are not stored', async ({ engine, story }) => {
    await engine.apply([story.put('ann', 'com.examples.note', {}), story.put('ann', 'app.bsky.feed.unheard', {})])
    expect(await engine.list('select uri as line from record')).toEqual([])
  })
})

test('a batch, and what is settled after it, take one connection: on several, each server process would map all of the index for itself', async ({
  engine,
  story,
}) => {
  const post = story.post('ann', 'hello')
  const gate = story.put('ann', 'app.bsky.feed.threadgate', { post: uriOf(post), allow: [] }, post.rkey)
  const follow = story.follow('bob', 'ann')
  await engine.apply([post, gate, follow, story.reply('bob', post)], [story.delete(gate), story.delete(follow)])
  expect(engine.db.gauges()).toEqual({ total: 1, idle: 1, waiting: 0 })
})
