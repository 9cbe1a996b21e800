/** Valid records that must not be indexed: somebody wrote into what is another's. */
import { describe, expect, test } from 'vitest'
import postgate from './app.bsky.feed/postgate.ts'
import threadgate from './app.bsky.feed/threadgate.ts'
import listitem from './app.bsky.graph/listitem.ts'
import optOut from './app.bsky.graph/referencelistoptout.ts'
import type { Collection, Entry } from './define.ts'

const entry = <R>(record: R): Entry<R> => ({
  uri: 'at://did:plc:ann/x/key',
  cid: 'bafy',
  did: 'did:plc:ann',
  rkey: 'key',
  rev: '3',
  live: true,
  record,
  createdAt: '2026-06-01T00:00:00.000Z',
  indexedAt: '2026-06-01T00:00:00.000Z',
  sortAt: '2026-06-01T00:00:00.000Z',
})

describe.each<[string, Collection<{ post: string }>]>([
  ['a thread gate', threadgate],
  ['a post gate', postgate],
])('%s', (_, gate) => {
  test.each([
    ['of one’s own post, under its key', 'at://did:plc:ann/app.bsky.feed.post/key', true],
    ['of another’s post', 'at://did:plc:bob/app.bsky.feed.post/key', false],
    ['of one’s own post, under another key', 'at://did:plc:ann/app.bsky.feed.post/other', false],
    ['of a post whose key only ends alike', 'at://did:plc:ann/app.bsky.feed.post/monkey', false],
  ])('%s', (_name, post, fits) => {
    expect(gate.refuses(entry({ post })) === undefined).toBe(fits)
  })
})

test('only the owner of a list adds to it', () => {
  const item = (list: string) => listitem.refuses(entry({ list, subject: 'did:plc:cat' }))
  expect(item('at://did:plc:ann/app.bsky.graph.list/1')).toBeUndefined()
  expect(item('at://did:plc:bob/app.bsky.graph.list/1')).toContain('only the owner')
  expect(item('at://did:plc:annx/app.bsky.graph.list/1')).toContain('only the owner')
})

test.each([
  ['at://did:plc:bob/app.bsky.graph.list/1', 1],
  ['at://did:plc:bob/app.bsky.graph.starterpack/1', 0],
  ['at://bob.test/app.bsky.graph.list/1', 0],
  ['at://did:plc:bob/app.bsky.graph.list', 0],
  ['at://did:plc:bob/app.bsky.graph.list/1#/a', 0],
  ['at://did:plc:bob/app.bsky.graph.list/1/', 0],
])('an opt-out of %s makes %i rows', (subject, rows) => {
  expect(optOut.rows(entry({ subject }))).toHaveLength(rows)
})
