import { collection } from '@sluice/collections/define.ts'
import type { Entry } from '@sluice/collections/record.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { describe, expect, test } from 'vitest'
import { endedBy, fold, type Version } from './version.ts'

const plugin = collection('com.example.thing', { rows: () => [] })

function version(
  rev: string,
  {
    uri = 'at://did:plc:a/com.example.thing/1',
    cid = `cid-${rev}`,
    time = rev,
    deleted = false,
    fromExport = false,
  } = {},
): Version {
  const entry = { uri, cid } as Entry
  const content = { cid, json: '{}', indexed: { plugin, entry } }
  return {
    uri,
    did: 'did:plc:a',
    collection: plugin.nsid,
    rev,
    time,
    fromExport,
    ...(deleted ? {} : { content }),
  }
}

describe('fold', () => {
  test('keeps the version with the highest rev, wherever it stands in the batch', () => {
    const versions = ['3', '5', '4'].map((rev) => version(rev))
    const random = new Random(1)
    for (let i = 0; i < 20; i++) {
      const { newest } = fold(random.shuffled(versions))
      expect(newest.map(({ rev }) => rev)).toEqual(['5'])
    }
  })

  test('a deletion is a version like any other', () => {
    const created = version('3')
    const deleted = version('4', { deleted: true })
    for (const order of [
      [created, deleted],
      [deleted, created],
    ])
      expect(fold(order).newest).toEqual([deleted])
    const recreated = version('5')
    expect(fold([recreated, deleted, created]).newest).toEqual([recreated])
  })

  test('of two at the same rev the later one in the batch counts', () => {
    for (const fromExport of [false, true]) {
      const [one, other] = ['x', 'y'].map((cid) => version('3', { cid, fromExport })) as [Version, Version]
      expect(fold([one, other]).newest).toEqual([other])
      expect(fold([other, one]).newest).toEqual([one])
      expect(fold([one, other]).past).toEqual([])
    }
  })

  test('C1 of a commit and an export at the same rev the commit counts, in any order: it dates the record', () => {
    const [before, live] = [version('2', { cid: 'x' }), version('3', { cid: 'y', time: 'of the commit' })]
    const exported = version('3', { cid: 'y', time: 'of the export', fromExport: true })
    const lacking = version('3', { deleted: true, time: 'of the export', fromExport: true })
    const random = new Random(3)
    for (let i = 0; i < 20; i++) {
      const { newest, past } = fold(random.shuffled([before, live, exported, lacking]))
      expect(newest).toEqual([live])
      expect(past).toEqual([{ version: before, until: '3', endedAt: 'of the commit', deleted: false }])
    }
    const later = version('4', { cid: 'y', fromExport: true })
    expect(fold([live, later]).newest).toEqual([later])
    expect(fold([later, live]).newest).toEqual([later])
  })

  test('keeps paths apart', () => {
    const a = version('3')
    const b = version('2', { uri: 'at://did:plc:a/com.example.thing/2' })
    expect(fold([a, b]).newest).toEqual([a, b])
  })

  test('tells of every superseded version by which later one and when it ended, in any order', () => {
    const [first, second, gone] = [version('1'), version('2'), version('3', { deleted: true, time: 'later' })]
    const random = new Random(2)
    for (let i = 0; i < 20; i++) {
      const { past } = fold(random.shuffled([first, second, gone]))
      const ends = past.map((p) => [p.version.rev, p.until, p.endedAt, p.deleted])
      expect(ends).toEqual([
        ['1', '2', '2', false],
        ['2', '3', 'later', true],
      ])
    }
  })

  test('a deletion that is superseded is told of too: the path was empty until then', () => {
    const { past } = fold([version('2'), version('1', { deleted: true })])
    expect(past.map((p) => [p.version.rev, p.version.content, p.until, p.deleted])).toEqual([
      ['1', undefined, '2', false],
    ])
  })
})

test('what was there before an export had ended by then, or what the export has goes on', () => {
  const untils = (rev: string | undefined): string[] =>
    fold([version('2'), version('5')]).past.map((past) => endedBy(past, rev).until)
  expect([undefined, '1', '2', '3', '5', '6'].map(untils)).toEqual([['5'], ['5'], ['5'], ['3'], ['5'], ['5']])
  const [clipped] = fold([version('2'), version('5')]).past.map((past) => endedBy(past, '3'))
  expect(clipped!.supersededAt).toBe('5')
})

test('paths come in byte order of their URIs, in which rows are locked', () => {
  const uris = ['at://b', 'at://a', 'at://B', 'at://a/z', 'at://a-']
  const { newest } = fold(uris.map((uri) => version('1', { uri })))
  expect(newest.map(({ uri }) => uri)).toEqual([...uris].sort())
})
