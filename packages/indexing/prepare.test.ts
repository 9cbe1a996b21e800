/** V5: what no index could hold is refused by itself, before it is anywhere. */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { uriOf, type CreateEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from 'vitest'
import { prepare } from './prepare.ts'
import { history } from './testing/history.ts'

const set = new CollectionSet(collections)

test('V5 a record that names something by thousands of characters is refused, its neighbours are not', () => {
  const isLike = (event: { type: string; collection: string }): boolean =>
    event.type === 'create' && event.collection === 'app.bsky.feed.like'
  const [like, other] = history({ seed: 1, events: 300 }).filter(isLike) as [CreateEvent, CreateEvent]
  const subject = like.record.subject as { uri: string; cid: string }
  const long = {
    ...like,
    record: { ...like.record, subject: { ...subject, uri: `${subject.uri}#/${'x'.repeat(3_000)}` } },
  }
  expect(set.validate(long.collection, long.record)).toBeUndefined()
  const { versions, refused } = prepare(set, [long, other])
  expect(refused).toMatchObject([{ uri: uriOf(long), reason: 'invalid-record' }])
  expect(versions.map(({ uri }) => uri)).toEqual([uriOf(other)])
})

test('V5 a text that begins as an identifier does, and goes on in other words, names nothing', () => {
  const isPost = (event: { type: string; collection: string }): boolean =>
    event.type === 'create' && event.collection === 'app.bsky.feed.post'
  const [post] = history({ seed: 1, events: 300 }).filter(isPost) as [CreateEvent]
  const flags = { ...post, record: { ...post.record, text: `did:${'🇩🇪'.repeat(296)}` } }
  expect(prepare(set, [flags])).toMatchObject({ refused: [], versions: [{ uri: uriOf(post) }] })
})
