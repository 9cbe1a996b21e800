import { AtUri } from '@atproto/syntax'
import { collection, table } from '../define.ts'

interface ReferenceListOptOut {
  subject: string
}

const optOut = table('reference_list_opt_out', {
  uri: 'text',
  cid: 'text',
  creator: 'text',
  subjectUri: 'text',
  createdAt: 'text',
  indexedAt: 'text',
})

export default collection<ReferenceListOptOut>('app.bsky.graph.referencelistoptout', {
  tables: [optOut],
  rows: ({ uri, cid, did, record: { subject }, createdAt, indexedAt }) =>
    isListUri(subject) ? [optOut.row({ uri, cid, creator: did, subjectUri: subject, createdAt, indexedAt })] : [],
  unique: ['creator', 'subjectUri'],
})

/**
 * Whether the URI is exactly `at://<did>/app.bsky.graph.list/<rkey>`. An opt-out with any other subject is stored as a
 * record but has no row.
 */
function isListUri(subject: string): boolean {
  try {
    const uri = new AtUri(subject)
    const plain = !uri.search && !uri.hash && uri.toString() === subject
    const named = uri.did.length > 0 && uri.rkeySafe !== '' && uri.pathname.split('/').filter(Boolean).length === 2
    return plain && named && uri.collection === 'app.bsky.graph.list'
  } catch {
    return false
  }
}
