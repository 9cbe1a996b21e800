/** Records that fit their lexicon and must not be indexed: somebody wrote into what is another's, or the AppView could not read it. */
import { AtUri } from '@atproto/syntax'
import { describe, expect, test } from 'vitest'
import like from './app.bsky.feed/like.ts'
import post from './app.bsky.feed/post.ts'
import postgate from './app.bsky.feed/postgate.ts'
import repost from './app.bsky.feed/repost.ts'
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
    expect(gate.refuses(entry({ post }))?.reason).toBe(fits ? undefined : 'wrong-owner')
  })
})

test('only the owner of a list adds to it', () => {
  const item = (list: string) => listitem.refuses(entry({ list, subject: 'did:plc:cat' }))
  expect(item('at://did:plc:ann/app.bsky.graph.list/1')).toBeUndefined()
  const refusal = { reason: 'wrong-owner', detail: expect.stringContaining('only the owner') as string }
  expect(item('at://did:plc:bob/app.bsky.graph.list/1')).toEqual(refusal)
  expect(item('at://did:plc:annx/app.bsky.graph.list/1')).toEqual(refusal)
})

describe('what the AppView asks for its DID is not named by handle', () => {
  const byDid = { uri: 'at://did:web:bob.test/app.bsky.feed.post/1', cid: 'bafy' }
  const byHandle = { uri: 'at://bob.test/app.bsky.feed.post/1', cid: 'bafy' }
  const showing = (record: object): object => ({ text: '', embed: { $type: 'app.bsky.embed.record', record } })
  const beside = (record: object): object => ({
    text: '',
    embed: { $type: 'app.bsky.embed.recordWithMedia', record: { record }, media: { $type: '' } },
  })

  test('a handle is what the AppView throws at', () => {
    expect(new AtUri(byDid.uri).did).toBe('did:web:bob.test')
    expect(() => new AtUri(byHandle.uri).did).toThrow('DID')
  })

  test.each<[string, Pick<Collection, 'refuses'>, (ref: object) => object]>([
    ['the root of a reply', post, (root) => ({ text: '', reply: { root, parent: byDid } })],
    ['the parent of a reply', post, (parent) => ({ text: '', reply: { root: byDid, parent } })],
    ['what a post shows', post, showing],
    ['what a post shows beside pictures', post, beside],
    ['the subject of a repost', repost, (subject) => ({ subject })],
    ['the subject of a like', like, (subject) => ({ subject })],
  ])('%s', (_name, plugin, record) => {
    expect(plugin.refuses(entry(record(byDid)))).toBeUndefined()
    expect(plugin.refuses(entry(record(byHandle)))).toMatchObject({ reason: 'invalid-record' })
  })

  test('what is named in passing may be', () => {
    expect(like.refuses(entry({ subject: byDid, via: byHandle }))).toBeUndefined()
    expect(post.refuses(entry({ text: '', embed: { $type: '' } }))).toBeUndefined()
  })
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
