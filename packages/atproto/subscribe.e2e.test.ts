import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { describe, expect, test, vi } from 'vitest'
import type { WebSocket } from 'ws'
import { decodeFrame } from './frame.ts'
import { subscribe, type SubscriptionItem, type SubscriptionOptions } from './subscribe.ts'
import { encodeErrorFrame, encodeFrame } from './testing/frames.ts'
import { streamServer, type StreamServer } from './testing/servers.ts'

const NSID = 'com.atproto.sync.subscribeRepos'
const QUICK = { backoff: { baseMs: 5, capMs: 20, healthyAfterMs: 60_000 }, futureCursorMs: 0, idleMs: 0, pingMs: 0 }

function frame(seq: number, padding = 0): Buffer {
  return encodeFrame('#identity', {
    seq,
    time: '2026-11-21T07:00:00.000Z',
    did: 'did:plc:z72i7hdynmk6r22z27h6tvur',
    padding: 'x'.repeat(padding),
  })
}

function seqOf(item: SubscriptionItem): number {
  if (item.type !== 'frame') throw new Error(item.type)
  const decoded = decodeFrame(item.bytes)
  return decoded.type === 'identity' ? decoded.seq : -1
}

/** Everything that happens until `enough` says so. */
async function follow(
  server: StreamServer,
  options: Partial<SubscriptionOptions>,
  enough: (items: SubscriptionItem[]) => boolean,
  onBatch: (batch: SubscriptionItem[]) => Promise<void> | void = () => undefined,
): Promise<SubscriptionItem[]> {
  const items: SubscriptionItem[] = []
  const signal = options.signal ?? new AbortController().signal
  for await (const batch of subscribe({
    host: server.url,
    nsid: NSID,
    cursor: () => undefined,
    ...QUICK,
    ...options,
    signal,
  })) {
    items.push(...batch)
    await onBatch(batch)
    if (enough(items)) break
  }
  return items
}

const types = (items: SubscriptionItem[]) =>
  items.map((item) => (item.type === 'close' ? `close: ${item.why}` : item.type))
const closes = (count: number) => (items: SubscriptionItem[]) =>
  items.filter(({ type }) => type === 'close').length >= count

describe('a subscription', () => {
  test('gives frames in order, and goes on at the cursor of the moment when the connection is lost', async () => {
    await using server = await streamServer((socket, number) => {
      for (let i = 1; i <= 3; i++) socket.send(frame(number * 3 + i))
      socket.close()
    })
    let cursor: number | undefined
    const items = await follow(server, { cursor: () => cursor }, closes(3), (batch) => {
      for (const item of batch) if (item.type === 'frame') cursor = seqOf(item)
    })
    expect(items.filter(({ type }) => type === 'frame').map(seqOf)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9])
    expect(server.requests).toEqual([`/xrpc/${NSID}`, `/xrpc/${NSID}?cursor=3`, `/xrpc/${NSID}?cursor=6`])
    expect(items.filter(({ type }) => type === 'open')).toEqual(
      [undefined, 3, 6].map((cursor) => ({ type: 'open', cursor })),
    )
  })

  test('0 is a cursor; no cursor is another thing', async () => {
    await using server = await streamServer((socket) => socket.close())
    const cursors = [undefined, 0, 7]
    await follow(server, { cursor: async () => cursors.shift() }, closes(3))
    expect(server.requests).toEqual([`/xrpc/${NSID}`, `/xrpc/${NSID}?cursor=0`, `/xrpc/${NSID}?cursor=7`])
  })

  test('does not go on without knowing where', async () => {
    await using server = await streamServer(() => undefined)
    const lost = () => Promise.reject(new Error('no cursor to be had'))
    await expect(follow(server, { cursor: lost }, () => true)).rejects.toThrow('no cursor to be had')
    expect(server.requests).toEqual([])
  })

  test('tells #info and error frames apart from data, and closes after an error', async () => {
    await using server = await streamServer((socket) => {
      socket.send(encodeFrame('#info', { name: 'OutdatedCursor', message: 'too old' }))
      socket.send(frame(1))
      socket.send(encodeErrorFrame('ConsumerTooSlow', 'hurry'))
      socket.close()
    })
    const items = await follow(server, {}, closes(1))
    expect(types(items)).toEqual(['open', 'info', 'frame', 'error', 'close: error-frame'])
    expect(items[1]).toEqual({ type: 'info', name: 'OutdatedCursor', text: 'too old' })
    expect(items[3]).toEqual({ type: 'error', error: 'ConsumerTooSlow', text: 'hurry' })
  })

  test('hears nothing more after an error frame, though the host goes on', async () => {
    await using server = await streamServer((socket) => {
      for (let i = 0; i < 100; i++) socket.send(encodeErrorFrame('ConsumerTooSlow'))
      socket.send(frame(1))
    })
    expect(types(await follow(server, {}, closes(1)))).toEqual(['open', 'error', 'close: error-frame'])
  })

  test('D10 waits long after FutureCursor', async () => {
    await using server = await streamServer((socket) => {
      socket.send(encodeErrorFrame('FutureCursor'))
      socket.close()
    })
    const items = await follow(server, { futureCursorMs: 123_000 }, closes(1))
    expect(items.at(-1)).toMatchObject({ type: 'close', why: 'error-frame', detail: 'FutureCursor' })
    expect((items.at(-1) as { retryMs: number }).retryMs).toBeGreaterThanOrEqual(123_000)
  })

  test('hands garbage and text on, for the consumer to count', async () => {
    await using server = await streamServer((socket) => {
      socket.send(Buffer.alloc(10, 0xff))
      socket.send('{"hello": 1}')
      socket.send(Buffer.alloc(0))
      socket.send(frame(4))
    })
    const items = await follow(server, {}, (all) => all.length >= 5)
    expect(types(items)).toEqual(['open', 'frame', 'frame', 'frame', 'frame'])
    expect(seqOf(items[4]!)).toBe(4)
  })

  test('D10 replaces a connection that says nothing, and one that does not answer', async () => {
    await using silent = await streamServer(() => undefined)
    expect(types(await follow(silent, { idleMs: 60 }, closes(2)))).toEqual([
      'open',
      'close: idle',
      'open',
      'close: idle',
    ])
    await using deaf = await streamServer(() => undefined, { autoPong: false })
    expect(types(await follow(deaf, { pingMs: 20 }, closes(1)))).toEqual(['open', 'close: no-pong'])
  })

  test('a stream that answers pings may be silent when that is configured', async () => {
    let pings = 0
    await using server = await streamServer((socket) => {
      socket.on('ping', () => {
        if (++pings === 8) socket.send(frame(1))
      })
    })
    const items = await follow(server, { pingMs: 10 }, (all) => all.some(({ type }) => type === 'frame'))
    expect(types(items)).toEqual(['open', 'frame'])
  })

  test('D10 waits grow while connections bring nothing, and begin anew after one that brought a frame', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(1)
    try {
      await using server = await streamServer((socket, number) => {
        if (number === 4) socket.send(frame(1))
        socket.close()
      })
      const items = await follow(server, { backoff: { baseMs: 2, capMs: 20, healthyAfterMs: 0 } }, closes(7))
      const waits = items.flatMap((item) => (item.type === 'close' ? [item.retryMs] : []))
      expect(waits).toEqual([2, 4, 8, 16, 2, 4, 8])
    } finally {
      vi.restoreAllMocks()
    }
  })

  test('D10 tries again while the host refuses, and says so', async () => {
    let refusals = 0
    await using server = await streamServer((socket) => socket.send(frame(1)), { refuse: () => ++refusals <= 3 })
    const items = await follow(server, {}, (all) => all.some(({ type }) => type === 'frame'))
    expect(types(items)).toEqual(['close: refused', 'close: refused', 'close: refused', 'open', 'frame'])
    expect(JSON.stringify(items[0])).toContain('503')
  })

  test('passes on what was whole when the connection breaks within a frame', async () => {
    await using server = await streamServer((socket) => {
      socket.send(frame(1), () => {
        const raw = (socket as unknown as { _socket: { write(bytes: Buffer): void; destroy(): void } })._socket
        raw.write(Buffer.concat([Buffer.of(0x82, 126, 0x10, 0x00), Buffer.alloc(100, 1)])) // 100 of 4096 bytes
        setTimeout(() => raw.destroy(), 20)
      })
    })
    const items = await follow(server, {}, closes(1))
    expect(types(items)).toEqual(['open', 'frame', 'close: closed'])
  })

  test('a frame beyond the limit is named as the cause', async () => {
    await using server = await streamServer((socket) => socket.send(frame(1, 5_000)))
    expect(types(await follow(server, { frameBytes: 1_000 }, closes(1)))).toEqual(['open', 'close: frame-too-large'])
  })
})

describe('backpressure', () => {
  test('a busy consumer stops the reading, and loses nothing', async () => {
    const count = 1_000
    const padding = 20_000 // 20 MB in all: more than the buffers of both ends and of the kernel
    let sent: WebSocket | undefined
    await using server = await streamServer((socket) => {
      sent = socket
      for (let i = 1; i <= count; i++) socket.send(frame(i, padding))
    })
    const bufferBytes = 100_000
    let largest = 0
    let waited = false
    const items = await follow(
      server,
      { bufferBytes, idleMs: 200 },
      (all) => all.length > count,
      async (batch) => {
        const bytes = batch.reduce((sum, item) => sum + (item.type === 'frame' ? item.bytes.length : 0), 0)
        largest = Math.max(largest, bytes)
        if (!waited && bytes > 0) {
          waited = true
          await wait(500) // longer than idleMs: a pause of ours is no silence of theirs
          expect(sent!.bufferedAmount).toBeGreaterThan(1_000_000)
        }
      },
    )
    expect(waited).toBe(true)
    expect(types(items)).toEqual(['open', ...Array.from({ length: count }, () => 'frame')])
    expect(items.slice(1).map(seqOf)).toEqual(Array.from({ length: count }, (_, i) => i + 1))
    // A chunk of the socket that is being parsed when the budget is reached is still finished.
    expect(largest).toBeLessThan(bufferBytes + 4 * padding + 128 * 1024)
  })
})

test('a frame counts for all that came with it from the socket, which it keeps', async () => {
  const count = 300
  const pongs = Buffer.concat(Array.from({ length: 500 }, () => Buffer.from([0x8a, 125, ...Buffer.alloc(125)])))
  let raw: Socket | undefined
  await using server = await streamServer((socket) => {
    raw = (socket as unknown as { _socket: Socket })._socket
    for (let i = 1; i <= count; i++) {
      raw.write(pongs)
      socket.send(frame(i))
    }
  })
  const bufferBytes = 64 * 1024
  let largest = 0
  let unsent = 0
  const isFrame = ({ type }: SubscriptionItem) => type === 'frame'
  const items = await follow(
    server,
    { bufferBytes },
    (all) => all.filter(isFrame).length === count,
    async (batch) => {
      const held = new Set(batch.flatMap((item) => (item.type === 'frame' ? [item.bytes.buffer] : [])))
      const heldBytes = [...held].reduce((sum, { byteLength }) => sum + byteLength, 0)
      largest = Math.max(largest, heldBytes)
      if (unsent > 0 || heldBytes === 0) return
      await wait(500)
      unsent = raw!.writableLength
    },
  )
  expect(items.filter(isFrame).map(seqOf)).toEqual(Array.from({ length: count }, (_, i) => i + 1))
  expect(unsent).toBeGreaterThan(0)
  expect(largest).toBeLessThan(bufferBytes + 4 * 64 * 1024)
})

test('silence counts from the end of our pause', async () => {
  const idleMs = 1_200
  let sent: WebSocket | undefined
  await using server = await streamServer((socket) => {
    sent = socket
    socket.send(frame(1))
    setTimeout(() => [2, 3, 4].forEach((seq) => socket.send(frame(seq, 1_000))), idleMs / 4)
  })
  const isFrame = ({ type }: SubscriptionItem) => type === 'frame'
  let busy = false
  const items = await follow(
    server,
    { bufferBytes: 1_000, idleMs },
    (all) => all.at(-1)!.type === 'close' || all.filter(isFrame).length === 5,
    async (batch) => {
      if (busy || !batch.some(isFrame)) return
      busy = true
      await wait(idleMs * 2)
      setTimeout(() => sent!.send(frame(5)), idleMs / 2) // late, but within the limit
    },
  )
  expect(types(items)).toEqual(['open', 'frame', 'frame', 'frame', 'frame', 'frame'])
})

describe('hosts that strangers name', () => {
  test('are not our own', async () => {
    await using server = await streamServer((socket) => socket.send(frame(1)))
    const publicOnly = true
    const local = [server.url, server.url.replace('ws:', 'wss:'), 'wss://[::1]/', 'wss://169.254.169.254']
    for (const url of [...local, 'ws://labeler.example']) {
      const refused = follow({ ...server, url }, { publicOnly }, () => true)
      await expect(refused).rejects.toThrow(expect.objectContaining({ reason: 'subscribe-not-public' }))
    }
    const named = `wss://localhost:${server.url.split(':')[2]}`
    const [close] = await follow({ ...server, url: named }, { publicOnly }, closes(1))
    expect(close).toMatchObject({ type: 'close', why: 'refused' })
    expect(JSON.stringify(close)).toContain('not a public address')
    expect(server.requests).toEqual([])
  })
})

describe('ending', () => {
  test('an abort ends the iteration without an error, and closes the socket', async () => {
    for (const during of ['frames', 'waiting'] as const) {
      const abort = new AbortController()
      await using server = await streamServer((socket) => {
        socket.send(frame(1))
        if (during === 'waiting') socket.close()
      })
      const backoff = { baseMs: 1e9, capMs: 1e9, healthyAfterMs: 1 }
      const items = await follow(
        server,
        { signal: abort.signal, backoff },
        () => false,
        (batch) => {
          if (!batch.some(({ type }) => type === (during === 'frames' ? 'frame' : 'close'))) return
          if (during === 'frames') abort.abort()
          else setTimeout(() => abort.abort(), 200) // in the middle of the wait, which a hot loop would not have
        },
      )
      expect(types(items).slice(0, 2)).toEqual(['open', 'frame'])
      if (server.sockets[0]!.readyState !== 3) await once(server.sockets[0]!, 'close')
      expect(server.requests).toHaveLength(1)
    }
  })

  test('leaving the iteration closes the socket; an abort before it asks nobody', async () => {
    await using server = await streamServer((socket) => socket.send(frame(1)))
    await follow(server, {}, () => true)
    if (server.sockets[0]!.readyState !== 3) await once(server.sockets[0]!, 'close')
    await follow(server, { signal: AbortSignal.abort() }, () => false)
    expect(server.requests).toHaveLength(1)
  })
})
