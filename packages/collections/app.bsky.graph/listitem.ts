import { didOfUri } from '@sluice/events/stream-event.ts'
import { collection, table } from '../define.ts'
import type { Entry } from '../record.ts'
import { listItemKey } from '../threads/gates.ts'
import { affectedByListItems, affectedByListItemsInParts } from '../threads/relations.ts'
import { relationFact } from '../threads/when.ts'

interface ListItem {
  subject: string
  list: string
}

const listItem = table('list_item', {
  uri: 'text',
  cid: 'text',
  creator: 'text',
  subjectDid: 'text',
  listUri: 'text',
  createdAt: 'text',
  indexedAt: 'text',
})

export default collection<ListItem>('app.bsky.graph.listitem', {
  tables: [listItem],
  refuses: ({ did, record: { list } }) =>
    didOfUri(list) === did ? undefined : { reason: 'wrong-owner', detail: `only the owner of ${list} can add to it` },
  rows: ({ uri, cid, did, record: { subject, list }, createdAt, indexedAt }) => [
    listItem.row({ uri, cid, creator: did, subjectDid: subject, listUri: list, createdAt, indexedAt }),
  ],
  unique: ['listUri', 'subjectDid'],
  remembers: (entry: Entry<ListItem>) => ({
    key: listItemKey(entry.record.list, entry.record.subject),
    ...relationFact(entry),
  }),
  affects: affectedByListItems,
  affectsInParts: affectedByListItemsInParts,
})
