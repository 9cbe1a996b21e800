import { collection, table } from '../define.ts'
import type { Entry } from '../record.ts'
import { affectedByThreadGates } from '../threads/affected.ts'
import { readThreadGate, threadGateKey, type ThreadGate } from '../threads/gates.ts'
import { gateOwnsPost } from '../threads/gate-owner.ts'
import { claimOfDate, writtenAt } from '../threads/when.ts'
import { refuseUnreadable } from '../unreadable-names.ts'

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
  // The AppView parses the owner's DID out of each list URI on every page that shows the post. When this gate is
  // refused, the thread stays open to all replies; with an unreadable list URI indexed, the AppView could not show the
  // thread at all.
  refuses: (entry) => gateOwnsPost(entry) ?? refuseUnreadable(...listsOf(readThreadGate(entry.record))),
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

function listsOf({ allow }: ThreadGate): string[] {
  return (allow ?? []).flatMap((rule) => (rule.rule === 'list' ? [rule.list] : []))
}
