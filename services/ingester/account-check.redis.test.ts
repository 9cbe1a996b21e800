/** Whose host answers is asked how its accounts stand, however many hosts there are that never answer. */
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { test, WAIT } from './testing/run.ts'
import { Stranger } from './testing/stranger.ts'

const TIME = '2026-01-01T00:00:00.000Z'
const CHECKS = 'sluice_ingester_account_checks_total'
const SILENT = 200

/** Hosts that take a request and say nothing. */
async function silentHosts() {
  const hosts = await Promise.all(Array.from({ length: SILENT }, () => Stranger.start(() => {})))
  const end = async () => void (await Promise.all(hosts.map((host) => host[Symbol.asyncDispose]())))
  return { hosts, asked: () => hosts.filter(({ requests }) => requests.length > 0).length, [Symbol.asyncDispose]: end }
}

const webDid = ({ host }: Stranger) => `did:web:localhost%3A${host.split(':')[1]}`

test.for([
  { name: 'are the directory of their account', didOf: webDid },
  { name: 'are what a document names', didOf: ({ host }: Stranger) => testDid(host) },
])(
  'hundreds of silent hosts that $name keep no account of another from being asked about',
  async ({ didOf }, { tools }) => {
    await using relay = await FakeRelay.start()
    await using silent = await silentHosts()
    const [alice, bob] = ['alice', 'bob'].map((name) => new TestRepo(testDid(name)))
    relay.register(alice!, bob!)
    const inactive = (did: string) =>
      relay.message('#account', { did, time: TIME, active: false, status: 'deactivated' })
    const ingester = await tools.ingest(relay)
    const differs = () => ingester.metric(CHECKS, { answer: 'differs' })
    inactive(alice!.did)
    await expect.poll(differs, WAIT).toBe(1)
    for (const host of silent.hosts) {
      const service = [{ id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: host.url }]
      relay.directory.documents.set(didOf(host), { id: didOf(host), service })
      inactive(didOf(host))
    }
    await expect.poll(silent.asked, WAIT).toBeGreaterThanOrEqual(8)
    inactive(bob!.did)
    await expect.poll(differs, WAIT).toBe(2)
    // A few at a time, as before.
    expect(silent.asked()).toBeLessThan(SILENT / 2)
  },
)
