/** The ways in which relays and accounts misbehave, and what must become of each. */
import { encodeCbor } from '@sluice/atproto/cbor-encode.ts'
import { encodeFrame } from '@sluice/atproto/testing/frames.ts'
import { highS, testKey } from '@sluice/atproto/testing/keys.ts'
import { link, TestRepo, type CommitBody, type Made, type Write } from '@sluice/atproto/testing/repo.ts'
import { resigned, withBlocks, withCommit } from '@sluice/atproto/testing/scene.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import type { FakeRelay } from '@sluice/sandbox/fake-relay.ts'

export const post = (text: string) => ({ $type: 'app.bsky.feed.post', text, createdAt: '2026-01-01T00:00:00.000Z' })
export const path = (n: number): string => `app.bsky.feed.post/3kaaaaaaaaa2${String.fromCharCode(97 + n)}`

export interface Stage {
  relay: FakeRelay
  alice: TestRepo
  /** Alice's next commit, not sent. */
  next: (writes?: Write[]) => Made
  /** Sends a commit whose body was changed. */
  sendBody: (body: CommitBody) => void
}

export interface Row {
  name: string
  act: (stage: Stage) => void
  /** In the ledger, beside the good commits around it. */
  outcomes: Record<string, number>
  /** Texts of Alice's posts that arrive all the same. */
  arrives?: string[]
  /** Why Alice's repository is asked for. */
  resync?: string
  /** How often the directory is asked for Alice at most, when not twice. */
  documents?: number
  metrics?: [name: string, labels: Record<string, string>, value: number][]
}

export const rows: Row[] = [
  {
    name: 'frames that are garbage are refused',
    act: ({ relay }) => {
      relay.send(Buffer.from('no frame at all'))
      relay.send(Buffer.alloc(0))
      relay.send(encodeCbor({ op: 1 }))
      relay.send(Buffer.concat([encodeFrame('#identity', { seq: 9, did: 'did:plc:x', time: 'now' }), Buffer.of(1)]))
    },
    outcomes: { 'refused:cbor-truncated': 1, 'refused:frame-bad-header': 2, 'refused:frame-trailing-bytes': 1 },
  },
  {
    name: 'a commit whose CAR is cut off is refused',
    act: ({ next, sendBody }) => {
      const { body } = next()
      sendBody({ ...body, blocks: body.blocks.subarray(0, -5) })
    },
    outcomes: { 'refused:car-truncated': 1 },
  },
  {
    name: 'frames of what is no DID are refused',
    act: ({ relay, next, sendBody }) => {
      const text = 'x'.repeat(1_000_000)
      sendBody({ ...next().body, repo: text })
      relay.message('#identity', { did: text, time: new Date().toISOString() })
    },
    outcomes: { 'refused:bad-did': 2 },
  },
  {
    name: 'a commit with a block that is not what its CID says is refused',
    act: ({ alice, next, sendBody }) => {
      const made = next()
      const { cid } = alice.records.get(path(1))!
      const forged = withBlocks({ repo: alice, made, state: { rev: '', data: alice.data } }, (blocks) =>
        blocks.set(cid, encodeCbor(post('forged'))),
      )
      sendBody(forged)
    },
    outcomes: { 'refused:car-wrong-hash': 1 },
  },
  {
    name: 'a commit signed by another key is refused, after one look at the directory',
    act: ({ alice, next, sendBody }) => {
      const made = next()
      sendBody(resigned({ repo: alice, made, state: { rev: '', data: alice.data } }, {}, testKey('somebody else')))
    },
    outcomes: { 'refused:bad-signature': 1 },
  },
  {
    name: 'a commit with a high-S signature is refused',
    act: ({ alice, next, sendBody }) => {
      const made = next()
      const unsigned = { did: alice.did, version: 3, rev: alice.rev, prev: null, data: link(alice.data) }
      const sig = highS(alice.key.sign(encodeCbor(unsigned)), alice.key.curve)
      sendBody(withCommit({ repo: alice, made }, encodeCbor({ ...unsigned, sig })))
    },
    outcomes: { 'refused:bad-signature': 1 },
  },
  {
    name: 'a commit whose ops do not lead from prevData is refused',
    act: ({ next, sendBody }) => {
      const { body } = next()
      sendBody({ ...body, prevData: body.commit })
    },
    outcomes: { 'refused:inversion-mismatch': 1 },
  },
  {
    name: 'V3 after a commit that was skipped the next one is appended, and the repository asked for',
    act: ({ next, sendBody }) => {
      next()
      sendBody(next([{ path: path(2), record: post('after the gap') }]).body)
    },
    outcomes: { appended: 1 },
    arrives: ['after the gap'],
    resync: 'gap',
    metrics: [['sluice_ingester_resyncs_total', { cause: 'since', answer: 'asked' }, 1]],
  },
  {
    name: 'V3 a second gap before the resync came asks for nothing more',
    act: ({ next, sendBody }) => {
      next()
      sendBody(next([{ path: path(2), record: post('after one gap') }]).body)
      next([{ path: path(3), record: post('skipped') }])
      sendBody(next([{ path: path(4), record: post('after two') }]).body)
    },
    outcomes: { appended: 2 },
    arrives: ['after one gap', 'after two'],
    resync: 'gap',
    metrics: [['sluice_ingester_resyncs_total', { cause: 'since', answer: 'pending' }, 1]],
  },
  {
    name: 'a commit that is repeated is left out',
    act: ({ next, sendBody }) => {
      const { body } = next()
      sendBody(body)
      sendBody(body)
    },
    outcomes: { appended: 1, duplicate: 1 },
    arrives: ['one'],
  },
  {
    name: 'a rev from the future is refused',
    act: ({ alice, sendBody }) => {
      const stepMs = Date.now() + 3_600_000 - Date.UTC(2026, 0, 1)
      sendBody(alice.write([{ path: path(1), record: post('tomorrow') }], { stepMs }).body)
    },
    outcomes: { 'refused:future-rev': 1 },
  },
  {
    name: 'a rev that goes back is left out',
    act: ({ next, sendBody }) => {
      const earlier = next()
      sendBody(next([{ path: path(2), record: post('later') }]).body)
      sendBody(earlier.body)
    },
    outcomes: { appended: 1, duplicate: 1 },
    arrives: ['later'],
    resync: 'gap',
  },
  {
    name: 'V3 a commit that was too big asks for the repository',
    act: ({ alice, next, sendBody }) => {
      const made = next()
      const only = withBlocks({ repo: alice, made, state: { rev: '', data: alice.data } }, (blocks) => {
        for (const cid of blocks.keys()) if (cid !== alice.commit) blocks.delete(cid)
      })
      sendBody({ ...only, ops: [], tooBig: true })
    },
    outcomes: { resync: 1 },
    resync: 'too-big',
  },
  {
    name: 'V3 a commit that is too big is not appended, though it names its ops and has their records',
    act: ({ next, sendBody }) => sendBody({ ...next().body, tooBig: true }),
    outcomes: { resync: 1 },
    resync: 'too-big',
  },
  {
    name: 'V3 a commit that lacks a node of its tree is not appended, and asks for the repository',
    act: ({ alice, next, sendBody }) => {
      const made = next()
      sendBody(withBlocks({ repo: alice, made, state: { rev: '', data: alice.data } }, (blocks) => blocks.delete(alice.data))) // prettier-ignore
    },
    outcomes: { resync: 1 },
    resync: 'gap',
    metrics: [['sluice_ingester_resyncs_total', { cause: 'incomplete-proof', answer: 'asked' }, 1]],
  },
  {
    name: 'V3 a commit that lacks the block of a record appends its sibling, and asks for the repository',
    act: ({ alice, next, sendBody }) => {
      const writes = [path(1), path(2)].map((at) => ({ path: at, record: post(at === path(1) ? 'lost' : 'sibling') }))
      const made = next(writes)
      const { cid } = alice.records.get(path(1))!
      sendBody(withBlocks({ repo: alice, made, state: { rev: '', data: alice.data } }, (blocks) => blocks.delete(cid)))
    },
    outcomes: { appended: 1 },
    arrives: ['sibling'],
    resync: 'gap',
    metrics: [
      ['sluice_ingester_refused_ops_total', { reason: 'op-missing-block' }, 1],
      ['sluice_ingester_resyncs_total', { cause: 'incomplete-proof', answer: 'asked' }, 1],
    ],
  },
  {
    name: 'a commit of 201 ops is refused',
    act: ({ next, sendBody }) => {
      const writes = Array.from({ length: 201 }, (_, i) => ({
        path: `app.bsky.feed.post/${1_000 + i}`,
        record: post(`${i}`),
      }))
      sendBody(next(writes).body)
    },
    outcomes: { 'refused:too-many-ops': 1 },
  },
  {
    name: 'a commit of 3 MB of blocks is refused',
    act: ({ next, sendBody }) => {
      const writes = [1, 2, 3, 4].map((n) => ({ path: path(n), record: post(`${n}`.repeat(750_000)) }))
      sendBody(next(writes).body)
    },
    outcomes: { 'refused:blocks-too-large': 1 },
  },
  {
    name: 'a commit whose ops all name one record of 990 kB is refused',
    act: ({ next, sendBody }) => {
      const record = post('\u0001'.repeat(990_000))
      const writes = Array.from({ length: 200 }, (_, i) => ({ path: `app.bsky.feed.post/${1_000 + i}`, record }))
      sendBody(next(writes).body)
    },
    outcomes: { 'refused:records-too-large': 1 },
  },
  {
    name: 'an op whose path is no NSID is refused, and its sibling appended',
    act: ({ next, sendBody }) => {
      const writes = [
        { path: 'no-nsid/3kaaaaaaaaa22', record: post('lost') },
        { path: path(2), record: post('sibling') },
      ]
      sendBody(next(writes).body)
    },
    outcomes: { appended: 1 },
    arrives: ['sibling'],
    metrics: [['sluice_ingester_refused_ops_total', { reason: 'op-bad-path' }, 1]],
  },
  {
    name: 'a type of frame that we do not know is passed over',
    act: ({ relay }) => relay.send(encodeFrame('#novelty', { seq: relay.seq + 1, did: 'did:plc:x' })),
    outcomes: { 'unknown-type': 1 },
  },
  {
    name: 'of an #identity only what is a handle and a time becomes an event, whatever stands there',
    act: ({ relay, alice }) => {
      const [handle, time] = [4_000_000, 500_000].map((chars) => '\u0001'.repeat(chars))
      relay.message('#identity', { did: alice.did, time, handle })
    },
    outcomes: { appended: 1 },
  },
  {
    name: 'a frame of more than 5 MB is refused, of whatever type it is',
    act: ({ relay, alice }) => {
      const [time, padding] = [new Date().toISOString(), 'x'.repeat(5_000_000)]
      relay.message('#identity', { did: alice.did, time, padding })
      relay.message('#account', { did: alice.did, time, active: false, padding })
    },
    outcomes: { 'refused:frame-too-large': 2 },
  },
  {
    name: 'a seq that goes back is refused',
    act: ({ relay, next }) => relay.send(encodeFrame('#commit', { ...next().body, seq: 1 })),
    outcomes: { 'refused:seq-not-rising': 1 },
  },
  {
    name: 'an account that does not exist cannot sign',
    act: ({ relay }) => {
      const nobody = new TestRepo(testDid('nobody'))
      relay.commit(nobody, [{ path: path(1), record: post('who?') }])
    },
    outcomes: { 'refused:no-signing-key': 1 },
  },
  {
    name: 'what an inactive account commits is refused, and asked for when it is active again',
    act: ({ relay, alice, next, sendBody }) => {
      relay.message('#account', { did: alice.did, time: new Date().toISOString(), active: false, status: 'takendown' })
      sendBody(next().body)
      relay.message('#account', { did: alice.did, time: new Date().toISOString(), active: true })
    },
    outcomes: { appended: 2, 'refused:account-inactive': 1 },
    documents: 3,
    resync: 'reactivated',
  },
  {
    name: 'V1 a #sync that its account has not signed asks for nothing',
    act: ({ relay, alice }) => {
      const forger = new TestRepo(alice.did, { key: testKey('somebody else') })
      for (const n of [1, 2, 3]) forger.write([{ path: path(n), record: post('forged') }])
      relay.message('#sync', forger.sync().body)
    },
    outcomes: { 'refused:bad-signature': 1 },
  },
  {
    name: 'V3 a #sync of another state asks for the repository, one of the same does not',
    act: ({ relay, alice, next }) => {
      relay.message('#sync', alice.sync().body)
      next()
      relay.message('#sync', alice.sync().body)
    },
    outcomes: { duplicate: 1, resync: 1 },
    resync: 'sync',
  },
]
