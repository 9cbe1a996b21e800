import { collection, table, type Entry } from '../define.ts'
import { affectedByThreadGates } from '../threads/affected.ts'
import { readThreadGate, threadGateKey } from '../threads/gates.ts'
import { gateOwnsPost } from '../threads/gate-owner.ts'
import { claimOfDate, writtenAt } from '../threads/when.ts'

interface Threadgate {
  post: string
  allow?: { $type?: string; list?: string }[]
  hiddenReplies?: string[]
}

const threadGate = table('thread_gate', {
  uri: 'text',
  cid: 'text',
  creator: 'text',
  postUri: 'text',
  createdAt: 'text',
  indexedAt: 'text',
})

export default collection<Threadgate>('app.bsky.feed.threadgate', {
  tables: [threadGate],
  refuses: gateOwnsPost,
  rows: ({ uri, cid, did, record: { post }, createdAt, indexedAt }) => [
    threadGate.row({ uri, cid, creator: did, postUri: post, createdAt, indexedAt }),
  ],
  remembers: ({ rev, live, record, createdAt }: Entry<Threadgate>) => ({
    key: threadGateKey(record.post),
    since: writtenAt({ rev, live }, claimOfDate(createdAt)),
    fact: readThreadGate(record),
  }),
  affects: affectedByThreadGates,
})
