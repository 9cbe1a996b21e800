/**
 * A5: of two labels that were made at the same moment the negation stands, however they come: also when they come once,
 * in one batch.
 */
import { DatabasePool } from '@sluice/database/pool.ts'
import type { LabelStreamEvent } from '@sluice/events/label-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyLabels } from './apply-labels.ts'

const label = (subject: number, neg: boolean): LabelStreamEvent => ({
  type: 'label',
  label: {
    src: 'did:plc:l',
    uri: `at://did:plc:a/app.bsky.feed.post/${subject}`,
    val: 'spam',
    neg,
    cts: '2026-06-01T00:00:00.000Z',
  },
})

test('A5: of two labels with one time the negation stands, in one batch or two, in either order', async ({
  database,
}) => {
  const db = new DatabasePool({ url: database, schema: 'bsky', size: 1, role: 'test' })
  try {
    await applyLabels(db, [
      label(1, false),
      label(1, true),
      label(2, true),
      label(2, false),
      label(3, false),
      label(4, true),
    ])
    await applyLabels(db, [label(3, true), label(4, false)])
    const { rows } = await db.query<{ neg: boolean }>('select neg from label order by uri')
    expect(rows.map(({ neg }) => neg)).toEqual([true, true, true, true])
  } finally {
    await db.close()
  }
})
