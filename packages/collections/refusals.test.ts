/**
 * Records that are valid by their lexicon and must not be indexed: they change something that belongs to another
 * account, or the AppView could not read them.
 */
import { AtUri } from '@atproto/syntax'
import { describe, expect, test } from 'vitest'
import profile from './app.bsky.actor/profile.ts'
import like from './app.bsky.feed/like.ts'
import post from './app.bsky.feed/post.ts'
import postgate from './app.bsky.feed/postgate.ts'
import repost from './app.bsky.feed/repost.ts'
import threadgate from './app.bsky.feed/threadgate.ts'
import follow from './app.bsky.graph/follow.ts'
import listitem from './app.bsky.graph/listitem.ts'
import optOut from './app.bsky.graph/referencelistoptout.ts'
import starterpack from './app.bsky.graph/starterpack.ts'
import type { Collection, StrongRef } from './define.ts'
import type { Entry } from './record.ts'

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

describe('what the AppView asks for its DID is named by one that it can read', () => {
  const byDid = { uri: 'at://did:web:bob.test/app.bsky.feed.post/1', cid: 'bafy' }
  const by = (authority: string, collection = 'app.bsky.feed.post') => ({
    uri: `at://${authority}/${collection}/1`,
    cid: 'bafy',
  })
  const READABLE = [
    'did:plc:bob',
    'did:web:bob.test',
    'did:web:localhost%3A1234',
    'did:example:a:b',
    'did:web:bob.test:a',
  ]
  const UNREADABLE = ['bob.test', 'did:example:a_b', 'did:web:bob.test%3A1', 'did:web:bob_s.test']
  const showing = (record: object): object => ({ text: '', embed: { $type: 'app.bsky.embed.record', record } })
  const beside = (record: object): object => ({
    text: '',
    embed: { $type: 'app.bsky.embed.recordWithMedia', record: { record }, media: { $type: '' } },
  })

  test('the AppView throws at the others', () => {
    for (const authority of READABLE) expect(new AtUri(by(authority).uri).did).toBe(authority)
    for (const authority of UNREADABLE) expect(() => new AtUri(by(authority).uri).did).toThrow('DID')
  })

  const linking = (ref: object): object => ({
    $type: 'app.bsky.embed.external',
    external: { uri: 'https://a.test', title: '', description: '', associatedRefs: [byDid, ref] },
  })

  test.each<[string, Pick<Collection, 'refuses'>, (ref: StrongRef) => object]>([
    ['the root of a reply', post, (root) => ({ text: '', reply: { root, parent: byDid } })],
    ['the parent of a reply', post, (parent) => ({ text: '', reply: { root: byDid, parent } })],
    ['what a post shows', post, showing],
    ['what a post shows beside pictures', post, beside],
    ['the subject of a repost', repost, (subject) => ({ subject })],
    ['the subject of a like', like, (subject) => ({ subject })],
    ['what is behind a link', post, (ref) => ({ text: '', embed: linking(ref) })],
    ['what is behind a link beside a record', post, (ref) => ({ text: '', embed: { $type: 'app.bsky.embed.recordWithMedia', record: { record: byDid }, media: linking(ref) } })], // prettier-ignore
    ['the starter pack by which a profile joined', profile, (joinedViaStarterPack) => ({ joinedViaStarterPack })],
    ['a feed of a starter pack', starterpack, (feed) => ({ list: byDid.uri, feeds: [feed] })],
    ['the list of a starter pack', starterpack, ({ uri }) => ({ list: uri })],
    ['a list of a thread gate', threadgate, ({ uri: list }) => ({ post: 'at://did:plc:ann/app.bsky.feed.post/key', allow: [{ $type: 'app.bsky.feed.threadgate#listRule', list }] })], // prettier-ignore
  ])('%s', (_name, plugin, record) => {
    for (const authority of READABLE) expect(plugin.refuses(entry(record(by(authority))))).toBeUndefined()
    for (const authority of UNREADABLE)
      expect(plugin.refuses(entry(record(by(authority))))).toMatchObject({ reason: 'invalid-record' })
  })

  test('the starter pack of a follow, and nothing else that it came by', () => {
    const followed = (via: StrongRef) => follow.refuses(entry({ subject: 'did:plc:bob', via }))?.reason
    expect(followed(by('did:plc:cat', 'app.bsky.graph.starterpack'))).toBeUndefined()
    expect(followed(by('cat.test', 'app.bsky.graph.starterpack'))).toBe('invalid-record')
    expect(followed(by('cat.test'))).toBeUndefined()
  })

  test('what is named in passing may be named by anything', () => {
    expect(like.refuses(entry({ subject: byDid, via: by('bob.test') }))).toBeUndefined()
    expect(post.refuses(entry({ text: '', embed: { $type: '' } }))).toBeUndefined()
    expect(post.refuses(entry({ text: '', embed: { $type: 'app.bsky.embed.recordWithMedia', record: { record: byDid }, media: { $type: '' } } }))).toBeUndefined() // prettier-ignore
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
