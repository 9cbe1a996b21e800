import { uriOf } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch } from '../apply-batch.ts'
import { indexOn } from '../testing/index-on.ts'
import { Story } from '../testing/story.ts'
import { beginBulkLoad } from './begin.ts'
import { finishBulkLoad } from './finish.ts'

/** In byte order `B` comes before `a`, in a language after it. */
test.for(['live', 'bulk'] as const)(
  'C4 of two likes of one post the lowest URI by bytes has the row where text sorts as in a language: %s path',
  async (path, { database }) => {
    await using index = indexOn(database, { size: 6, byKey: false, statementMs: 0 })
    await index.db.query('alter table "like" alter column uri type varchar collate "und-x-icu"')
    const story = new Story()
    const post = story.post('ann', 'a post')
    const like = (rkey: string) =>
      story.put('bob', 'app.bsky.feed.like', { subject: { uri: uriOf(post), cid: post.cid } }, rkey)
    const likes = [like('a'), like('B')]
    if (path === 'bulk') await beginBulkLoad(index.db, index.collections)
    await applyBatch(index, [post, ...likes])
    if (path === 'bulk') await finishBulkLoad(index.db, index.collections, { signal: new AbortController().signal })
    const { rows } = await index.db.query<{ uri: string }>('select uri from "like"')
    expect(rows).toEqual([{ uri: uriOf(likes[1]!) }])
  },
)
