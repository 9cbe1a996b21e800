/**
 * A1, A2: a host that answers, and each time only just in time, keeps nobody else's account from being asked about,
 * however many it has; and its own are asked about.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { httpServer, json } from '@sluice/atproto/testing/servers.ts'
import type { AccountEvent } from '@sluice/events/stream-event.ts'
import { applyBatch } from '@sluice/indexing/apply-batch.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { HostPace } from './host-pace.ts'
import { checking } from './testing/checking.ts'
import { account, deletedAt, did, poll, scene, type World } from './testing/deletion-scene.ts'

const THEIRS = Array.from({ length: 8 }, (_, i) => `did:plc:${'abcdefgh'[i]!.repeat(24)}`)
/** In places that others wait for. */
const AT_ONCE = 3

const differing = (of: string): AccountEvent[] => [
  account('2026-06-01T12:00:00.000Z', true, undefined, of),
  account('2026-06-01T12:00:01.000Z', false, 'deactivated', of),
]

/** Ten seconds pass until the host answers by this clock. */
function slowly() {
  let nowMs = 0
  const pace = new HostPace(() => nowMs)
  const answer = ({ later }: World, count: number): void => {
    nowMs += 9_900
    for (const one of later.splice(0, count)) one('active')
  }
  return { pace, answer }
}

test('A1 one that is slow about many accounts whose status differs leaves the places to others after one round', async ({
  database,
}) => {
  const { pace, answer } = slowly()
  await using it = await checking(database, pace)
  const { world } = it
  world.says = 'later'
  await it.apply(...THEIRS.flatMap(differing))
  await expect.poll(() => world.later.length, poll).toBe(AT_ONCE)
  answer(world, AT_ONCE)
  // From now on it is asked where those that do not answer are.
  await expect.poll(() => world.later.length, poll).toBe(1)
  world.ended.add(did)
  await it.apply(...differing(did))
  await expect.poll(it.status, poll).toEqual([{ upstreamStatus: 'deleted' }])
  expect(world.later.length).toBe(1)
  expect(await it.metrics()).toContain(`account_checks_total{outcome="put-off"} ${THEIRS.length - AT_ONCE}`)
  for (let i = AT_ONCE; i < THEIRS.length; i++) {
    await expect.poll(() => world.later.length, poll).toBe(1)
    answer(world, 1)
  }
  await expect.poll(it.metrics, poll).toContain(`account_checks_total{outcome="differs"} ${THEIRS.length + 1}`)
})

test('A2 one that is slow about many accounts whose deletion was reported leaves the places to others after one round', async ({
  database,
  redisUrl,
}) => {
  const { pace, answer } = slowly()
  await using it = await scene(database, redisUrl, { pace })
  const { world } = it
  world.says = 'later'
  await applyBatch(
    it.index,
    THEIRS.map((of) => account(deletedAt, false, 'deleted', of)),
  )
  await expect.poll(() => world.later.length, poll).toBe(AT_ONCE)
  answer(world, AT_ONCE)
  await expect.poll(() => world.later.length, poll).toBe(1)
  world.ended.add(did)
  await applyBatch(it.index, [account(deletedAt, false, 'deleted')])
  await expect.poll(it.records, poll).toBe(0)
  expect(world.later.length).toBe(1)
  for (let i = AT_ONCE; i < THEIRS.length; i++) {
    await expect.poll(() => world.later.length, poll).toBe(1)
    answer(world, 1)
  }
  await expect.poll(() => it.outcomes('hosted'), poll).toBe(THEIRS.length)
})

test('A1 any number of hosts of one owner, each of them slow at its first question, leave the places to others after one round', async ({
  database,
}) => {
  let nowMs = 0
  await using it = await checking(database, new HostPace(() => nowMs))
  await using stack = new AsyncDisposableStack()
  const { world } = it
  const later: (() => void)[] = []
  for (const of of THEIRS) {
    const host = stack.use(
      await httpServer((_, response) =>
        later.push(() => json(response, { did: of, active: true, rev: '3kabcdefghijk' })),
      ),
    )
    world.homes.set(of, host.url)
  }
  await it.apply(...THEIRS.flatMap(differing))
  await expect.poll(() => later.length, poll).toBe(AT_ONCE)
  // What they owe together is more than one owner may; none of the others was ever asked.
  nowMs += 30_000
  for (const answer of later.splice(0)) answer()
  await expect.poll(() => later.length, poll).toBe(1)
  world.ended.add(did)
  await it.apply(...differing(did))
  await expect.poll(it.status, poll).toEqual([{ upstreamStatus: 'deleted' }])
  expect(later.length).toBe(1)
  expect(await it.metrics()).toContain(`account_checks_total{outcome="put-off"} ${THEIRS.length - AT_ONCE}`)
  for (let i = AT_ONCE; i < THEIRS.length; i++) {
    await expect.poll(() => later.length, poll).toBe(1)
    later.pop()!()
  }
  await expect.poll(it.metrics, poll).toContain(`account_checks_total{outcome="differs"} ${THEIRS.length + 1}`)
})

test('A1 one owner that is silent about many of its accounts, which have not been answered for before, has one place there: others are asked about meanwhile', async ({
  database,
}) => {
  await using it = await checking(database)
  await using stack = new AsyncDisposableStack()
  const { world } = it
  let isMended = false
  const other = stack.use(
    await httpServer((_, response) => {
      if (isMended) json(response, { did, active: false, status: 'suspended' })
      else response.writeHead(503).end()
    }),
  )
  world.homes.set(did, other.url.replace('127.0.0.1', 'localhost'))
  await it.apply(...[...THEIRS, did].flatMap(differing))
  await expect.poll(() => it.inState('failing'), poll).toBe(THEIRS.length + 1)
  world.says = 'later'
  await expect.poll(() => world.later.length, poll).toBe(1)
  isMended = true
  await expect.poll(it.status, poll).toEqual([{ upstreamStatus: 'suspended' }])
  expect(world.later.length).toBe(1)
  await expect.poll(it.metrics, poll).toMatch(/account_checks_total\{outcome="turned-away"\} [1-9]/)
  for (const one of world.later.splice(0)) one('active')
  await expect.poll(() => world.later.length, poll).toBe(1)
})

/** A host at an address of its own, which makes it a host of an owner of its own. It never answers. */
async function silentHost(stack: AsyncDisposableStack, address: string, asked: () => void): Promise<string> {
  const server = createServer((request) => {
    asked()
    request.socket.destroy()
  })
  stack.defer(async () => {
    server.close()
    await once(server, 'close')
  })
  await once(server.listen(0, address), 'listening')
  return `http://${address}:${(server.address() as AddressInfo).port}`
}

test('A1 four owners that are silent about accounts that have not been answered for before have no place there for a while: others are asked about', async ({
  database,
}) => {
  await using stack = new AsyncDisposableStack()
  let nowMs = 0
  let silences = 0
  await using it = await checking(database, new HostPace(() => nowMs))
  const { world } = it
  const addresses = ['127.0.1.1', '127.0.1.2', '127.0.1.3', '127.0.1.4']
  for (const [i, address] of addresses.entries()) {
    const url = await silentHost(stack, address, () => {
      silences++
      nowMs += 10_000
    })
    for (const of of THEIRS.slice(2 * i, 2 * i + 2)) world.homes.set(of, url)
  }
  // Until it has ended, it has no host: nothing can be held against the others of this machine.
  world.homes.set(did, 'nowhere')
  await it.apply(...[...THEIRS, did].flatMap(differing))
  await expect.poll(() => it.inState('failing'), poll).toBe(THEIRS.length + 1)
  const turnedAway = async (): Promise<number> =>
    Number(/account_checks_total\{outcome="turned-away"\} (\d+)/.exec(await it.metrics())?.[1] ?? 0)
  await expect.poll(turnedAway, poll).toBeGreaterThanOrEqual(THEIRS.length)
  const before = silences
  expect(before).toBeGreaterThanOrEqual(addresses.length)
  world.ended.add(did)
  await expect.poll(it.status, poll).toEqual([{ upstreamStatus: 'deleted' }])
  expect(silences).toBe(before)
  expect(await it.inState('failing')).toBe(THEIRS.length)
})

/** A host of an owner of its own, as `silentHost`. It fails at first, and from then on answers when it is told to. */
async function lateHost(
  stack: AsyncDisposableStack,
  address: string,
  later: { isFailing: boolean; answers: (() => void)[] },
): Promise<string> {
  const server = createServer((request, response) => {
    if (later.isFailing) return void response.writeHead(503).end()
    const asked = new URL(request.url!, 'http://host').searchParams.get('did')
    later.answers.push(() => json(response, { did: asked, active: true, rev: '3kabcdefghijk' }))
  })
  stack.defer(async () => {
    server.close()
    server.closeAllConnections()
    await once(server, 'close')
  })
  await once(server.listen(0, address), 'listening')
  return `http://${address}:${(server.address() as AddressInfo).port}`
}

test('A1 four owners that answer just in time about accounts that have not been answered for before have two places there together: others are asked about', async ({
  database,
}) => {
  await using stack = new AsyncDisposableStack()
  let nowMs = 0
  await using it = await checking(database, new HostPace(() => nowMs))
  const { world } = it
  const later = { isFailing: true, answers: [] as (() => void)[] }
  const theirs: string[] = []
  for (const address of ['127.0.1.1', '127.0.1.2', '127.0.1.3', '127.0.1.4']) {
    const url = await lateHost(stack, address, later)
    for (let i = 0; i < 6; i++) {
      const of = `did:plc:${'abcdefghijklmnopqrstuvwx'[theirs.length]!.repeat(24)}`
      theirs.push(of)
      world.homes.set(of, url)
    }
  }
  // As above: until it has ended, it has no host.
  world.homes.set(did, 'nowhere')
  await it.apply(...[...theirs, did].flatMap(differing))
  await expect.poll(() => it.inState('failing'), poll).toBe(theirs.length + 1)
  later.isFailing = false
  for (let round = 0; round < 3; round++) {
    await expect.poll(() => later.answers.length, poll).toBe(4)
    nowMs += 9_900
    for (const answer of later.answers.splice(0)) answer()
  }
  await expect.poll(() => later.answers.length, poll).toBe(2)
  world.ended.add(did)
  await expect.poll(it.status, poll).toEqual([{ upstreamStatus: 'deleted' }])
  expect(later.answers.length).toBe(2)
  const metricsThen = async (): Promise<string> => {
    for (const answer of later.answers.splice(0)) answer()
    return await it.metrics()
  }
  await expect.poll(metricsThen, poll).toContain(`account_checks_total{outcome="differs"} ${theirs.length + 1}`)
})
