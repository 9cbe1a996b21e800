/** DATAPLANE_DEBUG.md says of every key of Redis what it is: whoever looks at a server finds each there. */
import { readFileSync } from 'node:fs'
import * as queue from '@sluice/streams/backfill-queue.ts'
import { cursorKey, timeKey } from '@sluice/streams/cursors.ts'
import { deadLetterStream } from '@sluice/streams/dead-letters.ts'
import { exportsKey } from '@sluice/streams/export-progress.ts'
import { IDENTITY_PREFIX } from '@sluice/streams/identity-cache.ts'
import { INCIDENTS_STREAM } from '@sluice/streams/incidents.ts'
import { leaseKey } from '@sluice/streams/lease.ts'
import { ledgerKey } from '@sluice/streams/ledger.ts'
import { keptKey, refusedFramesKey, refusedStream } from '@sluice/streams/refused-frames.ts'
import { suspectsKey } from '@sluice/streams/suspects.ts'
import { expect, test } from 'vitest'

const TEXT = readFileSync(new URL('../../DATAPLANE_DEBUG.md', import.meta.url), 'utf8')

test('every key is in the table of where each thing lives', () => {
  const table = TEXT.split('## Where each thing lives')[1]!.split('\n## ')[0]!
  const at = { stream: '<stream>', group: '<group>', consumer: '<consumer>' }
  const repos = 'repo_backfill'
  const keys = [
    ...[queue.retryKey, queue.retriesByDidKey, queue.hostsKey, queue.sweepDemandKey, queue.sweptKey].map((of) =>
      of(repos),
    ),
    ...[queue.hostKey, queue.slotsKey].map((of) => of(repos, '<host>')),
    ...[queue.setAsideKey, queue.madeUpKey].map((of) => of(repos)),
    queue.lettersOfKey(repos, '<owner>'),
    queue.underWayKey({ stream: repos, group: at.group }),
    cursorKey(at.stream, '<host>'),
    timeKey(at.stream, '<host>'),
    deadLetterStream(at.stream),
    ledgerKey('firehose_live', '<host>'),
    ...[refusedStream, refusedFramesKey, keptKey].map((of) => of(at.stream)),
    exportsKey('firehose_backfill'),
    INCIDENTS_STREAM,
    `${IDENTITY_PREFIX}<slot>`,
    leaseKey(at),
    suspectsKey(at),
    // Their names are made where this package may not look.
    'firehose_live:shard',
    'sluice:postgres:timeline',
    'label_live:labelers:<host>',
    '<stream>_dlq:latest',
    'sluice:chain:<bucket>',
    'repo_backfill:stuck:<host>',
  ]
  expect(keys.filter((key) => !table.includes(`\`${key}\``))).toEqual([])
})
