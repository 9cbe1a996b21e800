import { FatalError } from '@sluice/runtime/errors.ts'
import { describe, expect, test } from 'vitest'
import { CollectionSet } from './collection-set.ts'
import { collections, tableScripts } from './collections.ts'
import { collection, type Collection } from './define.ts'
import forumPost from './space.atbb/post.ts'

describe('which collections are stored', () => {
  const set = new CollectionSet(collections, ['app.foo.*', 'com.example.note'])

  test.each([
    ['app.foo.bar', true],
    ['app.foo.bar.baz', true],
    ['app.foobar.x', false],
    ['app.foo', false],
    ['xapp.foo.bar', false],
    ['com.example.note', true],
    ['com.example.notes', false],
    ['com.example.note.more', false],
    ['app.bsky.feed.post', true],
    ['app.bsky.feed.unheard', false],
    ['chat.bsky.actor.declaration', true],
    ['space.atbb.post', false],
  ])('%s: %s', (nsid, stored) => {
    expect(set.stores(nsid)).toBe(stored)
  })

  test('* stores everything', () => {
    expect(new CollectionSet([], ['*']).stores('app.foobar.x')).toBe(true)
  })

  test('a pattern of another form stops the start', () => {
    expect(() => new CollectionSet([], ['app.foo*'])).toThrow(FatalError)
  })

  test('a collection that is listed twice stops the start', () => {
    expect(() => new CollectionSet([...collections, collection('app.bsky.feed.like', { rows: () => [] })])).toThrow(
      'app.bsky.feed.like is in the list twice',
    )
  })
})

describe('V5: what cannot be a record is refused in every collection', () => {
  const set = new CollectionSet(collections, ['com.example.*'])
  const impossible: [string, object][] = [
    ['a fraction', { allowIncoming: 'all', a: 1.5 }],
    ['half a surrogate pair', { allowIncoming: 'all', a: '\ud800' }],
    ['a key __proto__', JSON.parse('{"allowIncoming":"all","__proto__":{}}') as object],
    ['endless nesting', JSON.parse(`${'{"a":'.repeat(1_000)}1${'}'.repeat(1_000)}`) as object],
  ]

  test.each(impossible)('%s, not validated', (_, record) => {
    expect(set.validate('chat.bsky.actor.declaration', record)).toMatch(/^record/)
  })

  test.each(impossible)('%s, stored by prefix', (_, record) => {
    expect(set.validate('com.example.note', record)).toMatch(/^record/)
  })

  test.each(impossible)('%s, beside what the lexicon names', (_, odd) => {
    const post = { $type: 'app.bsky.feed.post', text: 'x', createdAt: '2026-01-01T00:00:00.000Z' }
    expect(set.validate('app.bsky.feed.post', post)).toBeUndefined()
    const spoilt: Record<string, unknown> = { ...post, odd }
    expect(set.validate('app.bsky.feed.post', spoilt)).toMatch(/^record\.odd/)
  })

  test('what no lexicon describes is taken as it is', () => {
    expect(
      set.validate('com.example.unlisted', { $type: 'com.example.other', a: [{ b: null }], c: '\u0000' }),
    ).toBeUndefined()
  })
})

describe('what the AppView makes a date of is none that it throws at', () => {
  const set = new CollectionSet(collections, ['com.example.*'])
  const declaration = { $type: 'app.bsky.notification.declaration', allowSubscriptions: 'none' }
  const germ = { $type: 'com.germnetwork.declaration', version: '1.0.0', currentKey: { $bytes: 'AAAA' } }

  test.each([
    ['app.bsky.notification.declaration', declaration],
    ['com.germnetwork.declaration', germ],
    ['chat.bsky.actor.declaration', { allowIncoming: 'all' }],
  ])('%s', (nsid, record) => {
    const made = (createdAt: unknown) => set.validate(nsid, { ...record, createdAt })
    for (const harmless of ['2026-01-01T00:00:00.000Z', 'x', 1, null, true]) expect(made(harmless)).toBeUndefined()
    for (const thrownAt of [{ toString: 0 }, [{ toString: 0 }]]) {
      expect(() => new Date(thrownAt as unknown as string)).toThrow(TypeError)
      expect(made(thrownAt)).toBe('record.createdAt: is no date')
    }
  })

  test('records that no AppView of ours reads may have what they like', () => {
    expect(set.validate('com.example.unlisted', { createdAt: { toString: 0 } })).toBeUndefined()
  })
})

describe('the example of a lexicon of one’s own', () => {
  const set = new CollectionSet([...collections, forumPost as Collection])
  const ref = {
    uri: 'at://did:plc:a/space.atbb.forum/self',
    cid: 'bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy',
  }
  const post = { $type: 'space.atbb.post', text: 'hello', forum: ref, createdAt: '2026-01-01T00:00:00.000Z' }

  test('is in effect by being listed, with its lexicon', () => {
    expect(set.stores('space.atbb.post')).toBe(true)
    expect(set.validate('space.atbb.post', { ...post, reply: { root: ref, parent: ref } })).toBeUndefined()
    expect(set.validate('space.atbb.post', { ...post, reply: { root: ref } })).toBe('record.reply.parent: is missing')
    expect(set.validate('space.atbb.post', { ...post, forum: undefined })).toBe('record.forum: is missing')
  })

  test('is not there by default', () => {
    expect(collections.map(({ nsid }) => nsid)).not.toContain('space.atbb.post')
    // Tables of plugins that are listed are no business of this test.
    expect(forumPost.migrations.length).toBeGreaterThan(0)
    expect(tableScripts().filter((script) => forumPost.migrations.includes(script))).toEqual([])
  })
})
