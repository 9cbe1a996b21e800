/** Tests each rule for replies and quotes alone. */
import { describe, expect, test } from 'vitest'
import { readPostGate, readThreadGate } from './gates.ts'
import { isReplyRootInvalid, judge, type Facts, type Judged, type ThreadPost } from './judge.ts'

const POST = (who: string, key = '1'): string => `at://did:plc:${who}/app.bsky.feed.post/${key}`
const root = POST('ann')
const THREADGATE = 'app.bsky.feed.threadgate'
const list = 'at://did:plc:ann/app.bsky.graph.list/1'

const nothing: Facts = {
  parent: () => ({ uri: root, root: null, parent: null, invalidReplyRoot: false }),
  threadGate: () => undefined,
  postGate: () => undefined,
  mentions: () => new Set(),
  follows: () => false,
  inList: () => false,
}

const reply = (who: string): Judged => ({
  uri: POST(who, '2'),
  did: `did:plc:${who}`,
  root,
  parent: root,
  quotes: null,
  at: '3',
})
const quote = (who: string): Judged => ({ ...reply(who), root: null, parent: null, quotes: root })
const gate = (...rules: string[]) =>
  readThreadGate({ allow: rules.map((rule) => ({ $type: `${THREADGATE}#${rule}`, list })) })
const forbids = (who: string, facts: Partial<Facts>): boolean =>
  judge(reply(who), { ...nothing, ...facts }).violatesThreadGate

describe('a thread gate', () => {
  test('absent, or with no list of rules, lets everybody reply; with an empty one nobody', () => {
    expect(forbids('bob', {})).toBe(false)
    expect(forbids('bob', { threadGate: () => readThreadGate({}) })).toBe(false)
    expect(forbids('bob', { threadGate: () => gate() })).toBe(true)
  })

  test('never keeps the owner out', () => {
    expect(forbids('ann', { threadGate: () => gate() })).toBe(false)
  })

  test.each<[string, string, Partial<Facts>]>([
    ['whom the root mentions', 'mentionRule', { mentions: () => new Set(['did:plc:bob']) }],
    ['who follows the owner', 'followerRule', { follows: (a, b) => a === 'did:plc:bob' && b === 'did:plc:ann' }],
    ['whom the owner follows', 'followingRule', { follows: (a, b) => a === 'did:plc:ann' && b === 'did:plc:bob' }],
    ['who is in the list', 'listRule', { inList: (l, member) => l === list && member === 'did:plc:bob' }],
  ])('lets in %s (%s), and nobody by another rule', (_, rule, fact) => {
    expect(forbids('bob', { ...fact, threadGate: () => gate(rule) })).toBe(false)
    expect(forbids('cat', { ...fact, threadGate: () => gate(rule) })).toBe(true)
    const others = ['mentionRule', 'followerRule', 'followingRule', 'listRule'].filter((other) => other !== rule)
    expect(forbids('bob', { ...fact, threadGate: () => gate(...others) })).toBe(true)
  })

  test('one rule that lets in suffices', () => {
    const mentions = () => new Set(['did:plc:bob'])
    expect(forbids('bob', { mentions, threadGate: () => gate('followerRule', 'mentionRule') })).toBe(false)
  })

  test('a rule of a kind that we do not know lets nobody in; a list rule without a list neither', () => {
    const everything = { mentions: () => new Set(['did:plc:bob']), follows: () => true, inList: () => true }
    expect(forbids('bob', { ...everything, threadGate: () => gate('moonRule') })).toBe(true)
    const listless = readThreadGate({ allow: [{ $type: `${THREADGATE}#listRule` }] })
    expect(forbids('bob', { ...everything, threadGate: () => listless })).toBe(true)
  })

  test('a reply is judged by the gate of its time', () => {
    const threadGate = (uri: string, at: string) => (uri === root && at < '5' ? gate() : undefined)
    expect(judge({ ...reply('bob'), at: '4' }, { ...nothing, threadGate }).violatesThreadGate).toBe(true)
    expect(judge({ ...reply('bob'), at: '5' }, { ...nothing, threadGate }).violatesThreadGate).toBe(false)
  })
})

describe('the claim of a reply to be in a thread', () => {
  const parent = (post: Partial<ThreadPost>): ThreadPost => ({
    uri: root,
    root: null,
    parent: null,
    invalidReplyRoot: false,
    ...post,
  })
  const middle = POST('cat')

  test.each<[string, { root: string; parent: string }, ThreadPost | undefined, boolean]>([
    ['a reply to the root itself', { root, parent: root }, parent({}), false],
    ['a reply to nothing', { root, parent: root }, undefined, true],
    [
      'a reply to a reply of the same thread',
      { root, parent: middle },
      parent({ uri: middle, root, parent: root }),
      false,
    ],
    [
      'a reply to a reply of another thread',
      { root, parent: middle },
      parent({ uri: middle, root: POST('eve'), parent: POST('eve') }),
      true,
    ],
    ['a reply to a root that claims another thread', { root, parent: middle }, parent({ uri: middle }), true],
    [
      'a reply to a root that is itself a reply',
      { root, parent: root },
      parent({ root: POST('eve'), parent: POST('eve') }),
      true,
    ],
    [
      'a reply to a claim that does not hold',
      { root, parent: middle },
      parent({ uri: middle, root, parent: root, invalidReplyRoot: true }),
      true,
    ],
  ])('%s', (_, claim, above, invalid) => {
    expect(isReplyRootInvalid(claim, above)).toBe(invalid)
    expect(judge({ ...reply('bob'), ...claim }, { ...nothing, parent: () => above }).invalidReplyRoot).toBe(invalid)
  })

  test('what is no reply claims nothing', () => {
    expect(
      judge({ ...reply('bob'), root: null, parent: null }, { ...nothing, parent: () => undefined }).invalidReplyRoot,
    ).toBe(false)
  })
})

describe('a post gate', () => {
  const closed = () => readPostGate({ embeddingRules: [{ $type: 'app.bsky.feed.postgate#disableRule' }] })
  const open = () => readPostGate({ embeddingRules: [{ $type: 'app.bsky.feed.postgate#someRule' }] })

  test('that is closed lets only the owner quote', () => {
    expect(judge(quote('bob'), { ...nothing, postGate: closed }).violatesEmbeddingRules).toBe(true)
    expect(judge(quote('ann'), { ...nothing, postGate: closed }).violatesEmbeddingRules).toBe(false)
  })

  test('that is not closed, or not there, lets everybody', () => {
    expect(judge(quote('bob'), { ...nothing, postGate: open }).violatesEmbeddingRules).toBe(false)
    expect(judge(quote('bob'), { ...nothing, postGate: () => readPostGate({}) }).violatesEmbeddingRules).toBe(false)
    expect(judge(quote('bob'), nothing).violatesEmbeddingRules).toBe(false)
  })

  test('says nothing about replies', () => {
    expect(judge(reply('bob'), { ...nothing, postGate: closed }).violatesEmbeddingRules).toBe(false)
  })
})

test('hidden replies are read as they stand', () => {
  expect(readThreadGate({ hiddenReplies: [root] })).toEqual({ allow: null, hiddenReplies: [root] })
})
