import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { expect, test } from './fixtures.ts'
import { startNetwork } from './network.ts'

test('accounts, records, deactivation, takedown and deletion go out on the firehose of a real PDS', async () => {
  await using network = await startNetwork()
  const { pds } = network
  const alice = await pds.createAccount('alice')
  await alice.agent.post({ text: 'hello' })
  await alice.agent.com.atproto.server.deactivateAccount({})
  await alice.agent.com.atproto.server.activateAccount()
  await pds.takeDown(alice.did, true)
  await pds.takeDown(alice.did, false)
  const bob = await pds.createAccount('bob-1')
  await pds.deleteAccount(bob.did)

  const document = (await (await fetch(`${network.plcUrl}/${alice.did}`)).json()) as {
    service: unknown
    alsoKnownAs: unknown
  }
  expect(document).toMatchObject({
    alsoKnownAs: ['at://alice.test'],
    service: [{ type: 'AtprotoPersonalDataServer', serviceEndpoint: pds.url }],
  })
  const { data } = await pds.agent().com.atproto.sync.listRepos()
  expect(data.repos.map(({ did, active }) => ({ did, active }))).toEqual([{ did: alice.did, active: true }])
  const frames = await readFrames(`${pds.url}/xrpc/com.atproto.sync.subscribeRepos?cursor=0`)
  // The events of an account that was deleted are purged, save the deletion.
  const created = ['#identity', '#account', '#commit', '#sync']
  const reactivated = ['#account', '#identity', '#sync']
  expect(typesOf(frames)).toEqual([
    ...created,
    '#commit',
    '#account',
    ...reactivated,
    '#account',
    '#account',
    '#account',
  ])
})

test('a stopped PDS refuses connections; started again it has its accounts', async () => {
  await using network = await startNetwork()
  const { did } = await network.pds.createAccount('carol')
  await network.pds.stop()
  await expect(network.pds.agent().com.atproto.sync.listRepos()).rejects.toThrow('fetch failed')
  await network.pds.start()
  const { data } = await network.pds.agent().com.atproto.sync.listRepos()
  expect(data.repos.map((repo) => repo.did)).toEqual([did])
})

test('it listens on loopback only', async () => {
  await using network = await startNetwork()
  const elsewhere = network.pds.url.replace('localhost', '127.0.0.2')
  expect((await fetch(`${network.pds.url}/xrpc/_health`)).status).toBe(200)
  await expect(fetch(`${elsewhere}/xrpc/_health`)).rejects.toThrow('fetch failed')
})

test('labels are signed and streamed, negations and expiry included', async ({ emptyDatabase }) => {
  await using network = await startNetwork({ labelerDatabaseUrl: emptyDatabase })
  const { labeler } = network
  const uri = labeler.did
  const frames = readFrames(`${labeler.url}/xrpc/com.atproto.label.subscribeLabels?cursor=0`)
  await labeler.label({ uri, val: 'kept' })
  await labeler.label({ uri, val: 'gone' })
  expect(await labeler.label({ uri, val: 'gone', negate: true })).toMatchObject({
    src: labeler.did,
    uri,
    val: 'gone',
    neg: true,
  })
  const brief = await labeler.label({ uri, val: 'brief', hours: -1 })
  expect(Date.parse(brief.exp!)).toBeLessThan(Date.parse(brief.cts))
  const types = typesOf(await frames)
  expect(new Set(types)).toEqual(new Set(['#labels']))
  expect(types.length).toBeGreaterThanOrEqual(3)
})

/** Everything a subscription sends until it is silent for half a second. */
async function readFrames(url: string): Promise<Buffer[]> {
  const frames: Buffer[] = []
  const socket = new WebSocket(url.replace(/^http/, 'ws'))
  socket.on('message', (data: Buffer) => frames.push(data))
  await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject))
  for (let seen = -1; seen !== frames.length || seen === 0;) {
    seen = frames.length
    await sleep(500)
  }
  socket.terminate()
  return frames
}

/** The `t` of a frame's header: `{op: 1, t: "#commit"}` in DAG-CBOR. */
function typesOf(frames: Buffer[]): string[] {
  return frames.map(
    (frame) =>
      /#(?:identity|account|commit|sync|labels)/.exec(frame.subarray(0, 32).toString('latin1'))?.[0] ?? 'no type',
  )
}
