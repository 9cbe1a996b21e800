/** What a subscription meets that goes on for months: a host that says nothing, few frames, and any number of connections. */
import { getEventListeners, once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { WebSocket } from 'ws'
import { subscribe, type SubscriptionItem, type SubscriptionOptions } from './subscribe.ts'
import { encodeFrame } from './testing/frames.ts'
import { streamServer } from './testing/servers.ts'

const FRAME = encodeFrame('#identity', { seq: 1, time: '2026-11-21T07:00:00.000Z', did: 'did:plc:z72i7hdynmk6r22z27h6tvur' }) // prettier-ignore

/** Everything that happens, as far as `enough` items. */
async function following(
  host: string,
  enough: number,
  options: Partial<SubscriptionOptions> = {},
  onItem: (item: SubscriptionItem) => void = () => undefined,
): Promise<SubscriptionItem[]> {
  const items: SubscriptionItem[] = []
  for await (const batch of subscribe({
    host,
    nsid: 'com.atproto.sync.subscribeRepos',
    cursor: () => 0,
    signal: new AbortController().signal,
    idleMs: 0,
    pingMs: 0,
    backoff: { baseMs: 1, capMs: 1, healthyAfterMs: 1 },
    ...options,
  })) {
    items.push(...batch)
    batch.forEach(onItem)
    if (items.length >= enough) break
  }
  return items
}

const types = (items: SubscriptionItem[]) =>
  items.map((item) => (item.type === 'close' ? `close: ${item.why}` : item.type))

test('D10 a host that takes the connection and never answers the handshake is given up after a while', async () => {
  const accepted: Socket[] = []
  const server = createServer((socket) => void accepted.push(socket.on('error', () => {}))).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    const items = await following(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`, 1)
    expect(types(items)).toEqual(['close: refused'])
    expect(JSON.stringify(items)).toContain('handshake has timed out')
    expect(accepted.length).toBe(1)
  } finally {
    for (const socket of accepted) socket.destroy()
    server.close()
  }
})

test('a frame now and then is no silence, however long it goes on', async () => {
  const speak = async (socket: WebSocket): Promise<void> => {
    for (let i = 0; i < 12; i++) {
      socket.send(FRAME)
      await wait(250)
    }
  }
  await using server = await streamServer((socket) => void speak(socket))
  const items = await following(server.url, 13, { idleMs: 2_000 })
  expect(types(items)).toEqual(['open', ...Array<string>(12).fill('frame')])
})

test('D10 time in which our own process stood still is no silence of the host', async () => {
  const idleMs = 400
  let stoodMs = 0
  await using server = await streamServer(() => undefined)
  const items = await following(server.url, 2, { idleMs }, ({ type }) => {
    if (type !== 'open') return
    server.sockets[0]!.send(FRAME)
    const since = performance.now()
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2 * idleMs)
    stoodMs = performance.now() - since
  })
  expect(stoodMs).toBeGreaterThan(idleMs)
  expect(types(items)).toEqual(['open', 'frame'])
})

test('D10 a host whose answers to pings lie behind frames that we have not read is no dead one', async () => {
  const pings = 4
  let seen = 0
  const behind = (socket: WebSocket) => () => {
    seen++
    socket.send(FRAME)
    if (seen === pings) socket.pong()
  }
  await using server = await streamServer((socket) => void socket.on('ping', behind(socket)), { autoPong: false })
  // Each frame fills the buffer, so that reading pauses with it.
  const items = await following(server.url, 1 + pings, { pingMs: 500, bufferBytes: 1 })
  expect(types(items)).toEqual(['open', ...Array<string>(pings).fill('frame')])
  expect(seen).toBe(pings)
})

test('D8 a connection that has ended leaves nothing behind that waits for the end of the subscription', async () => {
  await using server = await streamServer((socket) => socket.close())
  const { signal } = new AbortController()
  const items = await following(server.url, 40, { signal })
  expect(items.filter(({ type }) => type === 'close').length).toBe(20)
  expect(getEventListeners(signal, 'abort')).toEqual([])
})

test('D9 an abort while the cursor is looked up ends the iteration, and no connection is left', async () => {
  await using server = await streamServer((socket) => socket.send(FRAME))
  const abort = new AbortController()
  const cursor = async (): Promise<number> => {
    abort.abort()
    return 7
  }
  expect(await following(server.url, 2, { cursor, signal: abort.signal })).toEqual([])
  for (const socket of server.sockets) if (socket.readyState !== socket.CLOSED) await once(socket, 'close')
})
