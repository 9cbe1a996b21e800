import { collection, type Collection } from '@sluice/collections/define.ts'
import type { Entry } from '@sluice/collections/record.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { describe, expect, test } from 'vitest'
import { decide, type Decisions, type Known } from './decide.ts'
import type { Version } from './version.ts'

const uri = 'at://did:plc:a/com.example.thing/1'
const plain = collection('com.example.thing', { rows: () => [] })
const derived: Collection = { ...plain, derive: async () => {}, hangsFrom: { name: 'above', text: '' } }
const remembered: Collection = { ...plain, remembers: ({ uri: key, rev: since }) => ({ key, since, fact: true }) }

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
  return decide([one], new Map(known ? [[one.uri, known]] : []), watermarks)
}

/** The lists that hold the version, by name, and whether it was stale. */
function fate(decisions: Decisions): string[] {
  // prettier-ignore
  const lists = ['fresh', 'replaced', 'confirmed', 'removed', 'tombstoned', 'doubted', 'resurrected', 'repeated', 'past'] as const
  return [...lists.filter((list) => decisions[list].length > 0), ...(decisions.stale > 0 ? ['stale'] : [])]
}

const living = (rev: string | null, cid = 'x'): Known & { state: 'living' } => ({ state: 'living', rev, cid })
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
    [
      'the same content, of a collection by whose time others are judged',
      version('2', 'x', { plugin: remembered }),
      living('1'),
      ['replaced'],
    ],
    ['the same content from an export', version('2', 'x', { fromExport: true }), living('1'), ['stale']],
    ...[
      ['', plain, 'confirmed'] as const,
      [', by whose time others are judged: as before, by what it claims', remembered, 'confirmed'] as const,
      [', that is itself to be judged', derived, 'replaced'] as const,
    ].map(([which, plugin, list]): [string, Version, Known, string[]] => [
      `the same content from an export, over a row of another indexer${which}`,
      version('2', 'x', { fromExport: true, plugin }),
      living(null),
      [list],
    ]),
    ['other content over a row of another indexer', version('1', 'y'), living(null), ['replaced']],
    ['the deletion of what lives', version('2', null), living('1'), ['removed', 'tombstoned']],
    ['the deletion of what another indexer wrote', version('1', null), living(null), ['removed', 'tombstoned']],
    ['the deletion of what was never seen', version('2', null), undefined, ['tombstoned']],
    ['a deletion older than what lives', version('1', null), living('2'), ['past', 'stale']],
    ['a second, later deletion', version('3', null), deleted('2'), ['tombstoned', 'past']],
    ['a deletion again', version('2', null), deleted('2'), ['repeated', 'stale']],
    ['a create older than the deletion', version('1', 'x'), deleted('2'), ['past', 'stale']],
    ['a create of the deletion’s own commit', version('2', 'x'), deleted('2'), ['repeated', 'stale']],
    ['a create after the deletion', version('3', 'x'), deleted('2'), ['fresh', 'resurrected', 'past']],
  ])('%s', (_, one, known, lists) => {
    expect(fate(decided(one, known))).toEqual(lists)
  })

  test.each<[string, Version, Known | undefined, string | undefined, string | undefined]>([
    ['an edit', version('3', 'y'), living('2'), undefined, '2'],
    ['an edit, above the watermark', version('3', 'y'), living('2'), '1', '2'],
    ['a create after the deletion', version('3', 'x'), deleted('2'), '1', '2'],
    ['a deletion', version('3', null), living('2'), undefined, '2'],
    ['nothing', version('3', 'x'), undefined, undefined, undefined],
    ['an edit of what an export brought', version('3', 'y'), living('2'), '2', undefined],
    ['an edit of what another indexer wrote', version('3', 'y'), living(null), undefined, undefined],
    ['what is late', version('2', 'y'), living('3'), undefined, undefined],
  ])('what is known to have been in force until then is named: %s', (_, one, known, resyncRev, rev) => {
    expect(decided(one, known, resyncRev).held.get(uri)).toBe(rev)
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

  test('a deletion of what is not there counts: it says no more than the export, and when what was dropped ended', () => {
    expect(fate(decided(version('4', null), undefined, '5'))).toEqual(['tombstoned', 'past'])
    expect(fate(decided(version('4', null), deleted('3'), '5'))).toEqual(['tombstoned', 'past'])
  })

  test('a deletion of what lives is in doubt: the export may have it again', () => {
    expect(fate(decided(version('4', null), living('3'), '5'))).toEqual(['doubted', 'past', 'stale'])
    // But in the row of another indexer it would have left its rev.
    expect(fate(decided(version('4', null), living(null), '5'))).toEqual(['removed', 'tombstoned', 'past'])
    expect(fate(decided(version('6', null), living('3'), '5'))).toEqual(['removed', 'tombstoned'])
  })

  test.each([
    ['the export does not have', version('5', null, { fromExport: true }), ['removed', 'tombstoned', 'past']],
    ['the export has', version('5', 'x', { fromExport: true }), ['confirmed', 'resurrected', 'past']],
    ['is deleted later', version('6', null), ['removed', 'tombstoned', 'past']],
    ['is written later', version('6', 'x'), ['confirmed', 'resurrected', 'past']],
    ['is another later', version('6', 'y'), ['replaced', 'resurrected', 'past']],
  ])('what %s ended by the deletion that was in doubt', (_, next, lists) => {
    const decisions = decided(next, { ...living('3'), doubt: { rev: '4', at: 'time of 4' } }, '5')
    expect(fate(decisions)).toEqual(lists)
    expect(decisions.past).toMatchObject([{ version: { rev: '4', time: 'time of 4' }, until: next.rev }])
    expect(decisions.past[0]!.version.content).toBeUndefined()
  })

  test('a later commit of what lives is the one by which the export has it, where others are judged by its time', () => {
    const later = version('4', 'x', { plugin: remembered })
    expect(fate(decided(later, living('3'), '5'))).toEqual(['replaced', 'past'])
    expect(fate(decided(later, living('3', 'y'), '5'))).toEqual(['past', 'stale'])
    expect(fate(decided(version('4', 'x'), living('3'), '5'))).toEqual(['past', 'stale'])
    const doubt = { rev: '3.5', at: 'time of 3.5' }
    expect(fate(decided(later, { ...living('3'), doubt }, '5'))).toEqual(['replaced', 'resurrected', 'past'])
  })

  test('what an older export repeats of what lives goes on', () => {
    const repeated = version('4', 'x', { fromExport: true })
    expect(fate(decided(repeated, living('3'), '5'))).toEqual(['stale'])
    expect(fate(decided(repeated, living('3', 'y'), '5'))).toEqual(['past', 'stale'])
  })

  test('the watermark of one account says nothing about another', () => {
    const one = version('4', 'x')
    const decisions = decide([one], new Map(), new Map([['did:plc:b', '5']]))
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
        const { fresh, replaced, confirmed, tombstoned } = decided(one, known)
        for (const { rev, content } of [...fresh, ...replaced, ...confirmed]) known = living(rev, content!.cid)
        for (const { rev } of tombstoned) known = deleted(rev)
      }
      expect(known).toEqual(highest.content ? living(highest.rev, highest.content.cid) : deleted(highest.rev))
    }
  }
})

/** The index of one path, as the engine keeps it. */
class Path {
  row: { rev: string; cid: string } | undefined
  tombstone: { rev: string; at: string } | undefined
  resyncRev: string | undefined

  take(one: Version): void {
    const known: Known | undefined = this.row
      ? { state: 'living', ...this.row, ...(this.tombstone ? { doubt: this.tombstone } : {}) }
      : this.tombstone && { state: 'deleted', ...this.tombstone }
    const { fresh, replaced, confirmed, removed, tombstoned, doubted, resurrected } = decided(
      one,
      known,
      this.resyncRev,
    )
    if (removed.length > 0) this.row = undefined
    if (resurrected.length > 0) this.tombstone = undefined
    for (const { rev, time: at } of tombstoned)
      if (!this.tombstone || this.tombstone.rev < rev) this.tombstone = { rev, at }
    for (const { rev, time: at } of doubted)
      if (!this.tombstone || this.tombstone.rev > rev) this.tombstone = { rev, at }
    for (const { rev, content } of [...fresh, ...replaced, ...confirmed]) this.row = { rev, cid: content!.cid }
  }

  /**
   * A part of an export, which has the path with this content or does not have it. Beside it, or by another part of it,
   * the watermark is raised.
   */
  takePart(rev: string, cid: string | null): void {
    this.raise(rev)
    if (cid !== null) this.take(version(rev, cid, { fromExport: true }))
    else if (this.row && this.row.rev <= rev && this.resyncRev === rev)
      this.take(version(rev, null, { fromExport: true }))
  }

  raise(rev: string): void {
    if (this.resyncRev === undefined || this.resyncRev < rev) this.resyncRev = rev
  }
}

test('live versions and the parts of two exports, in any order and some of them twice, end in the last version', () => {
  const random = new Random(5)
  for (let i = 0; i < 2_000; i++) {
    const cids: (string | null)[] = ['a']
    while (cids.length < 5) cids.push(cids.at(-1) !== null && random.chance(0.5) ? null : random.pick(['a', 'a', 'b']))
    const steps: [string, (path: Path) => void][] = [
      ...cids.map((cid, n): (typeof steps)[0] => [`${n} ${cid}`, (path) => path.take(version(`${n}`, cid))]),
      ...[random.below(5), random.below(5)].flatMap((n): typeof steps => [
        [`export at ${n}`, (path) => path.takePart(`${n}x`, cids[n]!)],
        [`another part of it`, (path) => path.raise(`${n}x`)],
      ]),
    ]
    const delivered = random.shuffled([...steps, ...steps.filter(() => random.chance(0.3))])
    const path = new Path()
    for (const [, step] of delivered) step(path)
    const order = delivered.map(([name]) => name).join(', ')
    expect(path.row?.cid ?? null, order).toBe(cids.at(-1))
  }
})
