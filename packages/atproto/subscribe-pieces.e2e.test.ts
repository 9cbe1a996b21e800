/**
 * Frames in pieces, and what a host may put between them: all that came with a piece is held until the frame is whole.
 */
import type { Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { WebSocket } from 'ws'
import { subscribe } from './subscribe.ts'
import { streamServer } from './testing/servers.ts'

/** What comes of one connection to a host that has `write` write to its socket, as far as `enough` items. */
async function following(write: (raw: Socket) => void | Promise<void>, enough = 2): Promise<string[]> {
  await using server = await streamServer(
    (socket: WebSocket) => void write((socket as unknown as { _socket: Socket })._socket),
  )
  const seen: string[] = []
  const subscription = subscribe({
    host: server.url,
    nsid: 'com.atproto.label.subscribeLabels',
    cursor: () => 0,
    signal: new AbortController().signal,
    idleMs: 0,
    pingMs: 0,
    frameBytes: 64 * 1024,
    backoff: { baseMs: 1e9, capMs: 1e9, healthyAfterMs: 1 },
  })
  for await (const items of subscription) {
    for (const item of items) {
      if (item.type === 'frame') seen.push(`frame of ${item.bytes.length}`)
      else seen.push(item.type === 'close' ? `close: ${item.why}` : item.type)
    }
    if (seen.length >= enough) break
  }
  return seen
}

const FINAL = 0x80
const [CONTINUED, BINARY, PONG] = [0x00, 0x02, 0x0a]

/** A websocket frame of a server. */
function piece(opcode: number, payload: Buffer): Buffer {
  const head =
    payload.length < 126 ? [opcode, payload.length] : [opcode, 126, payload.length >> 8, payload.length & 255]
  return Buffer.concat([Buffer.from(head), payload])
}

function pieces(count: number, bytes: number): Buffer[] {
  return Array.from({ length: count }, (_, i) =>
    piece((i === 0 ? BINARY : CONTINUED) | (i === count - 1 ? FINAL : 0), Buffer.alloc(bytes, 1)),
  )
}

const pongs = (count: number) => Buffer.concat(Array<Buffer>(count).fill(piece(PONG | FINAL, Buffer.alloc(125))))

test('a frame in pieces of 4 kB is taken', async () => {
  expect(await following((raw) => void raw.write(Buffer.concat(pieces(16, 4_096))))).toEqual(['open', 'frame of 65536'])
})

test('a frame in pieces of a byte is not', async () => {
  const many = Buffer.concat(pieces(100, 1))
  expect(await following((raw) => void raw.write(many))).toEqual(['open', 'close: frame-too-large'])
})

test('nor one that the network brings byte by byte', async () => {
  const [frame] = pieces(1, 4_000) as [Buffer]
  const dripped = following(async (raw) => {
    for (let at = 0; at < frame.length && raw.writable; at++) {
      raw.write(frame.subarray(at, at + 1))
      await setImmediate()
    }
  })
  expect(await dripped).toEqual(['open', 'close: frame-too-large'])
})

test('pings and pongs may lie between pieces and frames, and not take the place of them', async () => {
  const [first, last] = pieces(2, 10) as [Buffer, Buffer]
  const few = Buffer.concat([pongs(600), first, pongs(400), last, pongs(900), ...pieces(1, 30)])
  expect(await following((raw) => void raw.write(few), 3)).toEqual(['open', 'frame of 20', 'frame of 30'])
  const many = Buffer.concat([first, pongs(1_100), last])
  expect(await following((raw) => void raw.write(many))).toEqual(['open', 'close: idle'])
})
