/**
 * Everything of this package against a real PDS and PLC directory: what they send is found true, and read as they meant
 * it.
 */
import { createHash } from 'node:crypto'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startNetwork } from '@sluice/sandbox/network.ts'
import { encodeCbor } from './cbor-encode.ts'
import { base32, cidOf, formatCid } from './cid.ts'
import { eventsOfCommit } from './commit-events.ts'
import type { ChainState } from './chain.ts'
import { decodeFrame, type Frame } from './frame.ts'
import { HandleResolver } from './handle-resolver.ts'
import { HttpClient } from './http.ts'
import { MemoryIdentityCache } from './identity-cache.ts'
import { IdentityResolver } from './identity-resolver.ts'
import type { Identity } from './identity.ts'
import { labelSignature } from './label.ts'
import { readRepoExport } from './repo-export.ts'
import { subscribe } from './subscribe.ts'
import { testKey } from './testing/keys.ts'
import { verifyCommit, verifySync } from './testing/verify.ts'
import { XrpcClient, XrpcRefusedError } from './xrpc.ts'

const REPOS = 'com.atproto.sync.subscribeRepos'

/** The frames of a stream from its start, until `count` have come. */
async function frames(host: string, nsid: string, count: number): Promise<Frame[]> {
  const found: Frame[] = []
  const { signal } = new AbortController()
  for await (const items of subscribe({ host: host.replace('http', 'ws'), nsid, cursor: () => 0, signal })) {
    for (const item of items) if (item.type === 'frame') found.push(decodeFrame(item.bytes))
    if (found.length >= count) break
  }
  return found
}

test('what a real PDS sends is verified in full: firehose, export, identity, handle, endpoints', async () => {
  await using network = await startNetwork()
  const { pds } = network
  const alice = await pds.createAccount('alice')
  const repo = { repo: alice.did }
  const posts: string[] = []
  for (let i = 0; i < 30; i++) posts.push((await alice.agent.post({ text: `post ${i} 日本` })).uri)
  for (const uri of posts.slice(0, 10)) await alice.agent.deletePost(uri)
  await alice.agent.com.atproto.repo.applyWrites({
    ...repo,
    writes: Array.from({ length: 40 }, (_, i) => ({
      $type: 'com.atproto.repo.applyWrites#create',
      collection: 'com.example.thing',
      rkey: `r${i}`,
      value: { $type: 'com.example.thing', i, list: [1, 2, 255] },
    })),
  })
  await alice.agent.com.atproto.repo.putRecord({
    ...repo,
    collection: 'com.example.thing',
    rkey: 'r7',
    record: { $type: 'com.example.thing', changed: true },
  })
  await alice.agent.com.atproto.repo.applyWrites({
    ...repo,
    writes: [3, 4, 5].map((i) => ({
      $type: 'com.atproto.repo.applyWrites#delete',
      collection: 'com.example.thing',
      rkey: `r${i}`,
    })),
  })

  const http = new HttpClient({ allowPrivate: true })
  const resolver = new IdentityResolver({ plcUrl: network.plcUrl, http, cache: new MemoryIdentityCache() })
  const resolution = await resolver.resolve(alice.did)
  if (resolution.status !== 'found') throw new Error(resolution.status)
  const identity: Identity = resolution.identity
  expect(identity).toMatchObject({ did: alice.did, handle: 'alice.test', pds: pds.url })
  const handles = new HandleResolver({ http, askPdsFor: ['.test'] })
  expect(await handles.verify(identity)).toBe('alice.test')
  expect(await handles.verify({ ...identity, handle: 'nobody.test' })).toBeUndefined()

  // identity, account, first commit, sync; then one commit for each of the 43 writes
  const events: StreamEvent[] = []
  let state: ChainState | null = null
  let syncs = 0
  for (const frame of await frames(pds.url, REPOS, 4 + 43)) {
    const options = { level: 'full', nowMs: Date.now() } as const
    if (frame.type === 'sync') {
      syncs++
      expect(verifySync(frame, state, identity.signingKey, options)).toEqual({ kind: 'duplicate' })
    }
    if (frame.type !== 'commit') continue
    const verdict = verifyCommit(frame, state, identity.signingKey, options)
    if (verdict.kind !== 'apply' && verdict.kind !== 'base') throw new Error(JSON.stringify(verdict))
    expect(verdict).toMatchObject({ kind: state === null ? 'base' : 'apply', proof: 'complete' })
    state = verdict.state
    const { events: found, refused } = eventsOfCommit(frame, verdict.blocks, { wanted: () => true, now: '' })
    expect(refused).toEqual([])
    events.push(...found)
  }
  expect(syncs).toBe(1)

  const folded = new Map<string, string>()
  for (const event of events) {
    if (event.type === 'create' || event.type === 'update') {
      expect(formatCid(cidOf(encodeCbor(event.record)))).toBe(event.cid)
      folded.set(`${event.collection}/${event.rkey}`, event.cid)
    } else if (event.type === 'delete') folded.delete(`${event.collection}/${event.rkey}`)
  }
  const xrpc = new XrpcClient(http)
  const response = await xrpc.getRepo(pds.url, alice.did)
  using exported = await readRepoExport(response.body, { did: alice.did, signingKey: identity.signingKey! })
  expect({ rev: exported.rev, data: exported.data }).toEqual(state)
  expect(new Map([...exported.records()].map(({ path, cid }) => [path, cid]))).toEqual(folded)
  expect(exported.recordCount).toBe(20 + 37)

  expect(await xrpc.getLatestCommit(pds.url, alice.did)).toEqual({ cid: exported.commit, rev: exported.rev })
  expect(await xrpc.getRepoStatus(pds.url, alice.did)).toMatchObject({ active: true, rev: exported.rev })
  expect((await xrpc.listRepos(pds.url)).items).toMatchObject([{ did: alice.did, rev: exported.rev, active: true }])
  await pds.takeDown(alice.did, true)
  await expect(xrpc.getRepo(pds.url, alice.did)).rejects.toMatchObject({ reason: 'repo-takendown' })
  await expect(xrpc.getRepo(pds.url, 'did:plc:z72i7hdynmk6r22z27h6tvur')).rejects.toThrow(XrpcRefusedError)
  await http.close()
})

test('what a real labeler signs is found to be its own', async ({ emptyDatabase }) => {
  await using network = await startNetwork({ labelerDatabaseUrl: emptyDatabase })
  const { labeler } = network
  await labeler.label({ uri: labeler.did, val: 'spam' })
  const [frame] = await frames(labeler.url, 'com.atproto.label.subscribeLabels', 1)
  if (frame?.type !== 'labels') throw new Error(frame?.type)
  const http = new HttpClient({ allowPrivate: true })
  const resolver = new IdentityResolver({ plcUrl: network.plcUrl, http, cache: new MemoryIdentityCache() })
  const resolution = await resolver.resolve(frame.labels[0]!.src)
  if (resolution.status !== 'found') throw new Error(resolution.status)
  const { endpoint, signingKey } = resolution.identity.labeler!
  expect(endpoint).toBe(labeler.url)
  expect(labelSignature(frame.labels[0]!, signingKey!)).toBe('good')
  expect(labelSignature({ ...frame.labels[0]!, val: 'other' }, signingKey!)).toBe('bad')
  await http.close()
})

test('what a real directory says of a DID that it does not know, and of one that was ended', async () => {
  await using network = await startNetwork()
  const key = testKey('owner')
  const signed = (operation: object) => ({
    ...operation,
    sig: Buffer.from(key.sign(encodeCbor(operation))).toString('base64url'),
  })
  const parts = { alsoKnownAs: ['at://owner.test'], verificationMethods: {}, services: {} }
  const genesis = signed({ type: 'plc_operation', rotationKeys: [key.did], ...parts, prev: null })
  // The multibase prefix is none of the DID.
  const did = `did:plc:${base32(createHash('sha256').update(encodeCbor(genesis)).digest()).slice(1, 25)}`
  const send = async (operation: object) => {
    const headers = { 'content-type': 'application/json' }
    const response = await fetch(`${network.plcUrl}/${did}`, { method: 'POST', headers, body: JSON.stringify(operation) }) // prettier-ignore
    expect(response.status, await response.text()).toBe(200)
  }
  const http = new HttpClient({ allowPrivate: true })
  const cache = new MemoryIdentityCache()
  const resolver = new IdentityResolver({ plcUrl: `${network.plcUrl}/`, http, cache, negativeMs: 0, freshMs: 0 })
  expect(await resolver.resolve(did)).toEqual({ status: 'missing' })
  await send(genesis)
  expect(await resolver.resolve(did)).toEqual({ status: 'found', identity: { did, handle: 'owner.test' } })
  await send(signed({ type: 'plc_tombstone', prev: formatCid(cidOf(encodeCbor(genesis))) }))
  expect(await resolver.resolve(did)).toEqual({ status: 'tombstoned' })
  await http.close()
})
