import { collection, type Collection, type Entry } from '@sluice/collections/define.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { describe, expect, test } from 'vitest'
import { decide, type Decisions, type Known } from './decide.ts'
import type { Version } from './version.ts'

const uri = 'at://did:plc:a/com.example.thing/1'
const plain = collection('com.example.thing', { rows: () => [] })
const derived: Collection = { ...plain, derive: async () => {} }

function version(
  rev: string,
  cid: string | null,
  { fromExport = false, plugin = plain, did = 'did:plc:a', at = uri } = {},
): Version {
  const content =
    cid === null ? {} : { content: { cid, json: '{}', indexed: { plugin, entry: { uri: at, cid } as Entry } } }
  return { uri: at, did, collection: plugin.nsid, rev, time: `time of ${rev}`, fromExport, ...content }
}

function decided(one: Version, known?: Known, resyncRev?: string): Decisions {
  const watermarks = new Map(resyncRev === undefined ? [] : [[one.did, resyncRev]])
  return decide(new Map([[one.uri, one]]), new Map(known ? [[one.uri, known]] : []), watermarks)
}

/** The lists that hold the version, by name, and whether it was stale. */
function fate(decisions: Decisions): string[] {
  const lists = ['fresh', 'replaced', 'confirmed', 'removed', 'entombed', 'exhumed', 'repeated', 'past'] as const
  return [...lists.filter((list) => decisions[list].length > 0), ...(decisions.stale > 0 ? ['stale'] : [])]
}

const living = (rev: string | null, cid = 'x'): Known => ({ state: 'living', rev, cid })
const deleted = (rev: string): Known => ({ state: 'deleted', rev, at: `time of ${rev}` })

describe('one path', () => {
  test.each<[string, Version, Known | undefined, string[]]>([
    ['a new record', version('2', 'x'), undefined, ['fresh']],
    ['other content at a higher rev', version('2', 'y'), living('1'), ['replaced']],
    ['other content at a lower rev', version('1', 'y'), living('2'), ['past', 'stale']],
    ['the same commit again', version('2', 'x'), living('2'), ['repeated', 'stale']],
    ['the same content at a higher rev', version('2', 'x'), living('1'), ['confirmed']],
    [
      'the same content, of a collection that is judged by time',
      version('2', 'x', { plugin: derived }),
      living('1'),
      ['replaced'],
    ],
    ['the same content from an export', version('2', 'x', { fromExport: true }), living('1'), ['stale']],
    [
      'the same content from an export, over a row of another indexer',
      version('2', 'x', { fromExport: true }),
      living(null),
      ['confirmed'],
    ],
    ['other content over a row of another indexer', version('1', 'y'), living(null), ['replaced']],
    ['the deletion of what lives', version('2', null), living('1'), ['removed', 'entombed']],
    ['the deletion of what another indexer wrote', version('1', null), living(null), ['removed', 'entombed']],
    ['the deletion of what was never seen', version('2', null), undefined, ['entombed']],
    ['a deletion older than what lives', version('1', null), living('2'), ['past', 'stale']],
    ['a second, later deletion', version('3', null), deleted('2'), ['entombed']],
    ['a deletion again', version('2', null), deleted('2'), ['repeated', 'stale']],
    ['a create older than the deletion', version('1', 'x'), deleted('2'), ['past', 'stale']],
    ['a create of the deletion’s own commit', version('2', 'x'), deleted('2'), ['repeated', 'stale']],
    ['a create after the deletion', version('3', 'x'), deleted('2'), ['fresh', 'exhumed', 'past']],
  ])('%s', (_, one, known, lists) => {
    expect(fate(decided(one, known))).toEqual(lists)
  })
})

describe('below the watermark of a resync', () => {
  test('a live create is no news: the export told what exists', () => {
    expect(fate(decided(version('4', 'x'), undefined, '5'))).toEqual(['past', 'stale'])
    expect(fate(decided(version('4', 'y'), living('3'), '5'))).toEqual(['past', 'stale'])
  })

  test('a record at the watermark itself is the export’s', () => {
    expect(fate(decided(version('5', 'x', { fromExport: true }), undefined, '5'))).toEqual(['fresh'])
  })

  test('a create after it is news', () => {
    expect(fate(decided(version('6', 'x'), undefined, '5'))).toEqual(['fresh'])
  })

  test('a deletion still counts: it says no more than the export, and when what was dropped ended', () => {
    expect(fate(decided(version('4', null), living('3'), '5'))).toEqual(['removed', 'entombed', 'past'])
    expect(fate(decided(version('6', null), living('3'), '5'))).toEqual(['removed', 'entombed'])
  })

  test('the watermark of one account says nothing about another', () => {
    const one = version('4', 'x')
    const decisions = decide(new Map([[uri, one]]), new Map(), new Map([['did:plc:b', '5']]))
    expect(fate(decisions)).toEqual(['fresh'])
  })
})

describe('what is superseded', () => {
  test('ends when the version in force began; deleted or replaced', () => {
    const [afterDeletion] = decided(version('1', 'x'), deleted('2')).past
    expect(afterDeletion).toMatchObject({ until: '2', endedAt: 'time of 2', deleted: true })
    const [afterUpdate] = decided(version('1', 'y'), living('2')).past
    expect(afterUpdate).toMatchObject({ until: '2', deleted: false })
    const [beforeExport] = decided(version('1', 'y'), undefined, '5').past
    expect(beforeExport).toMatchObject({ until: '5', deleted: true })
    const [emptiness] = decided(version('3', 'x'), deleted('2')).past
    expect(emptiness).toMatchObject({
      version: { rev: '2', time: 'time of 2' },
      until: '3',
      endedAt: 'time of 3',
      deleted: false,
    })
    expect(emptiness!.version.content).toBeUndefined()
  })
})

test('decisions come in URI order, in which rows are locked', () => {
  const uris = new Random(3).shuffled(Array.from({ length: 50 }, (_, i) => `at://did:plc:a/com.example.thing/${i}`))
  const decisions = decide(new Map(uris.map((at) => [at, version('1', 'x', { at })])), new Map(), new Map())
  expect(decisions.fresh.map((v) => v.uri)).toEqual([...uris].sort())
})

/** The rule itself, in one line, against every history of one path in every order. */
test('any order of the same versions ends in the one with the highest rev', () => {
  const history = [
    version('1', 'a'),
    version('2', null),
    version('3', 'b'),
    version('4', 'b'),
    version('5', null),
    version('6', 'c'),
  ]
  const random = new Random(4)
  for (let length = 1; length <= history.length; length++) {
    const highest = history[length - 1]!
    for (let i = 0; i < 30; i++) {
      let known: Known | undefined
      for (const one of random.shuffled(history.slice(0, length))) {
        const { fresh, replaced, confirmed, entombed } = decided(one, known)
        for (const { rev, content } of [...fresh, ...replaced, ...confirmed]) known = living(rev, content!.cid)
        for (const { rev } of entombed) known = deleted(rev)
      }
      expect(known).toEqual(highest.content ? living(highest.rev, highest.content.cid) : deleted(highest.rev))
    }
  }
})
