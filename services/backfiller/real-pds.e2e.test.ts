import { streamEventCodec } from '@sluice/events/codec.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startNetwork } from '@sluice/sandbox/network.ts'
import { connectRedis } from '@sluice/streams/connection.ts'

test('a repository of a real PDS arrives whole, and what the PDS does not serve becomes a status', async ({
  redisUrl,
}) => {
  await using network = await startNetwork()
  const account = await network.pds.createAccount('alice')
  const gone = await network.pds.createAccount('carol')
  const uris = []
  for (let i = 0; i < 12; i++) {
    const record = { $type: 'app.bsky.feed.post', text: `post ${i} – äöü`, createdAt: new Date().toISOString() }
    const { data } = await account.agent.com.atproto.repo.createRecord({
      repo: account.did,
      collection: 'app.bsky.feed.post',
      record,
    })
    uris.push(`${data.uri} ${data.cid}`)
  }
  await network.pds.takeDown(gone.did, true)
  const client = await connectRedis({ url: redisUrl, name: 'test' })
  for (const { did } of [account, gone]) {
    await client.xAdd('repo_backfill', '*', { repo: JSON.stringify({ did, host: 'relay.example', rev: '' }) })
  }
  try {
    await using daemon = await startDaemon({
      role: 'backfiller',
      env: {
        REDIS_URL: redisUrl,
        PLC_URL: network.plcUrl,
        BACKFILLER_CONSUMER: 'one',
        ALLOW_PRIVATE_HOSTS: 'true',
      },
    })
    await expect.poll(() => client.xLen('repo_backfill'), { timeout: 20_000 }).toBe(0)
    const entries = await client.xRange('firehose_backfill', '-', '+')
    const events = entries!.map(({ message }): StreamEvent => streamEventCodec.decode(message))
    const creates = events.flatMap((event) => (event.type === 'create' ? [event] : []))
    expect(creates.map(({ did, collection, rkey, cid }) => `at://${did}/${collection}/${rkey} ${cid}`)).toEqual(uris)
    const { data: head } = await account.agent.com.atproto.sync.getLatestCommit({ did: account.did })
    expect(events.filter(({ type }) => type === 'repo').at(-1)).toMatchObject({ commit: head.cid, rev: head.rev })
    expect(events.filter(({ type }) => type === 'account')).toMatchObject([
      { did: gone.did, active: false, status: 'takendown', host: network.pds.url.slice('http://'.length) },
    ])
    expect(await daemon.metric('sluice_backfill_repos_total', { outcome: 'resynced' })).toBe(1)
    expect(await daemon.metric('sluice_backfill_repos_total', { outcome: 'account' })).toBe(1)
  } finally {
    client.destroy()
  }
})
