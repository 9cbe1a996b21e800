import { expect, onTestFinished, test, vi } from 'vitest'
import { setImmediate as turn } from 'node:timers/promises'
import { HostQueues } from './host-queues.ts'
import type { Asked, Permit } from './pds-limits.ts'

/** A queue whose work ends when it is told to; hosts named here may not be asked. */
function queues({
  concurrency = 32,
  heldMax = 1_000,
  hostConcurrency = 8,
  shares = Infinity,
  closed = new Map<string, number>(),
} = {}) {
  const order: string[] = []
  const under = new Map<string, () => void>()
  const asked: string[] = []
  const released: string[] = []
  let free = shares
  const permit = (host: string): Permit => ({ host, release: async () => void released.push(host) })
  const queue = new HostQueues<string, Disposable>({
    concurrency,
    heldMax,
    limits: {
      limitsOf: () => ({ concurrency: hostConcurrency, perSecond: 1, burst: 1 }),
      ask: (host): Promise<Asked> => {
        asked.push(host)
        const waitMs = closed.get(host)
        return Promise.resolve(waitMs === undefined ? { permit: permit(host) } : { why: 'parked', waitMs })
      },
    },
    // As the dispatcher does, who puts them into Redis.
    onWait: (host) => void (queue.isCrowded && queue.drain(host)),
    reserve: () => (free === 0 ? undefined : (free--, { [Symbol.dispose]: () => void free++ })),
    work: async (item, _, reserved) => {
      using _reserved = reserved
      order.push(item)
      await new Promise<void>((resolve) => under.set(item, resolve))
      under.delete(item)
    },
  })
  const finish = async (item: string): Promise<void> => {
    under.get(item)!()
    await turn()
    await turn()
  }
  return { queue, order, under, asked, released, finish, closed }
}

async function close(queue: HostQueues<string, Disposable>, under: Map<string, () => void>): Promise<void> {
  const closed = queue.close()
  for (const end of under.values()) end()
  await closed
}

test('B2: a host that never answers holds its share of the places, and the others go on', async () => {
  const { queue, under, order } = queues()
  for (let i = 0; i < 100; i++) queue.add('slow', `slow ${i}`, { urgent: false })
  for (let i = 0; i < 10; i++) queue.add(`host ${i}`, `good ${i}`, { urgent: false })
  await turn()
  expect([...under.keys()].filter((item) => item.startsWith('slow')).length).toBeLessThanOrEqual(2)
  expect(order.filter((item) => item.startsWith('good'))).toHaveLength(10)
  await close(queue, under)
})

test('B2: slow hosts with many repositories leave room for those of others, and for what is urgent', async () => {
  const heldMax = 1_000
  const slow = Array.from({ length: 20 }, (_, i) => `slow ${i}`)
  const { queue, under } = queues({ heldMax, closed: new Map(slow.map((host) => [host, 60_000])) })
  for (const host of slow) {
    for (let i = 0; i < heldMax && queue.mayWait(host, { urgent: false }); i++)
      queue.add(host, `${host} ${i}`, { urgent: false })
  }
  await turn()
  expect(queue.hosts, 'each may hold something').toBe(slow.length)
  expect(queue.waiting).toBeLessThan(heldMax)
  expect(queue.mayWait('another', { urgent: false })).toBe(true)
  expect(slow.filter((host) => queue.mayWait(host, { urgent: true }))).toEqual(slow)
  await close(queue, under)
})

test('B2: however many hosts are slow, one that is quick goes on', async () => {
  const { queue, under, finish } = queues({ concurrency: 64 })
  queue.add('quick', 'first', { urgent: false })
  await turn()
  await finish('first')
  for (let i = 0; i < 200; i++) queue.add(`slow ${i}`, `slow ${i}`, { urgent: false })
  await turn()
  for (let i = 0; i < 10; i++) {
    queue.add('quick', `more ${i}`, { urgent: false })
    await turn()
    expect([...under.keys()]).toContain(`more ${i}`)
    await finish(`more ${i}`)
  }
  expect(under.size, 'and nothing else is kept free').toBe(60)
  await close(queue, under)
})

test('B2: however many hosts are closed for a while, there is room for one that is not', async () => {
  const heldMax = 1_000
  const names = Array.from({ length: 2_000 }, (_, i) => `closed ${i}`)
  const { queue, under, order } = queues({ heldMax, closed: new Map(names.map((host) => [host, 5_000])) })
  const held = (): boolean => queue.waiting + queue.running >= heldMax
  // All that there is of one host, and then of the next, as listed hosts come.
  for (const host of names) {
    for (let i = 0; i < 100 && !held() && queue.mayWait(host, { urgent: false }); i++)
      queue.add(host, `${host} ${i}`, { urgent: false })
    await turn()
  }
  expect(held()).toBe(false)
  expect(queue.mayWait('open', { urgent: false })).toBe(true)
  queue.add('open', 'good', { urgent: false })
  await turn()
  expect(order).toEqual(['good'])
  await close(queue, under)
})

test('what waits for a closed host can be taken out, and what comes later does not make us ask it before its time', async () => {
  const { queue, under, order, asked } = queues({ closed: new Map([['closed', 60_000]]) })
  for (const item of ['a', 'b']) queue.add('closed', item, { urgent: false })
  queue.add('closed', 'urgent', { urgent: true })
  await turn()
  expect(queue.drain('closed')).toEqual(['urgent', 'a', 'b'])
  expect([queue.waiting, queue.hosts]).toEqual([0, 0])
  const askedBefore = asked.length
  queue.add('closed', 'a', { urgent: false })
  await turn()
  expect(queue.closedMs('closed')).toBeGreaterThan(0)
  expect(asked).toHaveLength(askedBefore)
  expect(order).toEqual([])
  await close(queue, under)
})

test('a host that may not be asked is passed over, and asked again in time', async () => {
  const { queue, under, order, asked, closed } = queues({ closed: new Map([['parked', 30]]) })
  queue.add('parked', 'later', { urgent: false })
  queue.add('open', 'now', { urgent: false })
  await turn()
  expect(order).toEqual(['now'])
  closed.clear()
  await expect.poll(() => order).toEqual(['now', 'later'])
  expect(asked.filter((host) => host === 'parked')).toHaveLength(2)
  await close(queue, under)
})

test('within a host what is urgent goes first, then first come, first served', async () => {
  const { queue, under, order, finish } = queues({ hostConcurrency: 1 })
  for (const item of ['a', 'b', 'c']) queue.add('host', item, { urgent: false })
  queue.add('host', 'urgent', { urgent: true })
  queue.add('host', 'again', { urgent: false, front: true })
  await turn()
  while (under.size > 0) await finish([...under.keys()][0]!)
  expect(order).toEqual(['urgent', 'again', 'a', 'b', 'c'])
  await close(queue, under)
})

test('nothing begins without what it needs, and it begins when there is some again', async () => {
  const { queue, under, order, finish } = queues({ shares: 1 })
  queue.add('one', 'a', { urgent: false })
  queue.add('two', 'b', { urgent: false })
  await turn()
  expect(order).toEqual(['a'])
  await finish('a')
  expect(order).toEqual(['a', 'b'])
  await close(queue, under)
})

test('what is closed begins nothing more, and knows when all has ended', async () => {
  const { queue, under, order } = queues({ hostConcurrency: 1 })
  queue.add('host', 'a', { urgent: false })
  queue.add('host', 'b', { urgent: false })
  await turn()
  await close(queue, under)
  expect(order).toEqual(['a'])
  expect(queue.running).toBe(0)
})

test('B2: never is more work under way than there are places, however quick the hosts are', async () => {
  const { queue, under, order, finish } = queues({ concurrency: 4 })
  const hosts = Array.from({ length: 12 }, (_, i) => `host ${i}`)
  for (const host of hosts) {
    queue.add(host, `first of ${host}`, { urgent: false })
    await turn()
    await finish(`first of ${host}`)
  }
  for (const host of hosts) for (let i = 0; i < 3; i++) queue.add(host, `${i} of ${host}`, { urgent: false })
  for (await turn(); under.size > 0; await finish([...under.keys()][0]!)) {
    expect(queue.running).toBeLessThanOrEqual(4)
    expect(under.size).toBeLessThanOrEqual(4)
  }
  expect(order).toHaveLength(4 * hosts.length)
  await close(queue, under)
})

test('B2: a host that was quick and is slow now has no claim to the last places', async () => {
  vi.useFakeTimers({ toFake: ['performance'] })
  onTestFinished(() => void vi.useRealTimers())
  const { queue, under, finish } = queues({ concurrency: 16 })
  for (const tookMs of [100, 20_000]) {
    queue.add('host', `took ${tookMs}`, { urgent: false })
    await turn()
    vi.advanceTimersByTime(tookMs)
    await finish(`took ${tookMs}`)
  }
  for (let i = 0; i < 15; i++) queue.add(`other ${i}`, `of other ${i}`, { urgent: false })
  await turn()
  expect(under.size, 'one of sixteen is for the quick').toBe(15)
  queue.add('host', 'again', { urgent: false })
  await turn()
  expect([...under.keys()]).not.toContain('again')
  await close(queue, under)
})

test('what was taken out while its host was asked leaves its permit to others, and what was reserved for it', async () => {
  const { queue, under, order, released } = queues({ shares: 1 })
  queue.add('host', 'taken out', { urgent: false })
  expect(queue.drain('host')).toEqual(['taken out'])
  await turn()
  expect([released, queue.running]).toEqual([['host'], 0])
  queue.add('other', 'next', { urgent: false })
  await turn()
  expect(order).toEqual(['next'])
  await close(queue, under)
})

test('a host that may not be asked keeps nothing of what its work would have needed', async () => {
  const { queue, under, order } = queues({ shares: 1, closed: new Map([['closed', 60_000]]) })
  queue.add('closed', 'waits', { urgent: false })
  await turn()
  queue.add('open', 'goes on', { urgent: false })
  await turn()
  expect(order).toEqual(['goes on'])
  await close(queue, under)
})

test('what is added while its host is asked does not have it asked again before its time', async () => {
  const { queue, under, asked } = queues({ hostConcurrency: 1, closed: new Map([['closed', 60_000]]) })
  queue.add('closed', 'a', { urgent: false })
  queue.add('closed', 'b', { urgent: false })
  await turn()
  queue.wake()
  await turn()
  expect(asked).toEqual(['closed'])
  expect(queue.waiting).toBe(2)
  await close(queue, under)
})

test('nothing is left running of what is closed, whether its hosts were closed before or are asked just then', async () => {
  const timers = () => process.getActiveResourcesInfo().filter((type) => type === 'Timeout').length
  const before = timers()
  const { queue, under } = queues({
    closed: new Map([
      ['closed', 60_000],
      ['asked', 60_000],
    ]),
  })
  queue.add('closed', 'a', { urgent: false })
  await turn()
  expect(timers()).toBe(before + 1)
  queue.add('asked', 'b', { urgent: false })
  await close(queue, under)
  expect(timers()).toBe(before)
})
