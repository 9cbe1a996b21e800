import { collection, table } from '../define.ts'
import type { Entry } from '../record.ts'
import { affectedByPostGates } from '../threads/affected.ts'
import { postGateKey, readPostGate } from '../threads/gates.ts'
import { gateOwnsPost } from '../threads/gate-owner.ts'
import { claimOfDate, writtenAt } from '../threads/when.ts'

interface Postgate {
  post: string
  embeddingRules?: { $type?: string }[]
}

const postGate = table('post_gate', {
  uri: 'text',
  cid: 'text',
  creator: 'text',
  postUri: 'text',
  createdAt: 'text',
  indexedAt: 'text',
})

export default collection<Postgate>('app.bsky.feed.postgate', {
  tables: [postGate],
  refuses: gateOwnsPost,
  rows: ({ uri, cid, did, record: { post }, createdAt, indexedAt }) => [
    postGate.row({ uri, cid, creator: did, postUri: post, createdAt, indexedAt }),
  ],
  remembers: ({ rev, live, record, createdAt }: Entry<Postgate>) => ({
    key: postGateKey(record.post),
    since: writtenAt({ rev, live }, claimOfDate(createdAt)),
    fact: readPostGate(record),
  }),
  affects: affectedByPostGates,
})
