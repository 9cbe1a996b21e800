/** Attacks that cost a host nothing: with idle connections, and with bodies in tiny pieces. */
import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { TransientError } from '@sluice/runtime/errors.ts'
import { HttpClient } from './http.ts'
import { drip, httpServer } from './testing/servers.ts'
import { random } from './testing/random.ts'

function opened(): HttpClient & AsyncDisposable {
  const client = new HttpClient({ allowPrivate: true })
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.close() })
}

test('a packed body that comes byte by byte is not unpacked byte by byte', async () => {
  const draw = random('byte by byte')
  const content = Buffer.from(Array.from({ length: 20_000 }, () => draw.below(256)))
  const packed = gzipSync(content)
  await using server = await httpServer((_, response) => {
    response.writeHead(200, { 'content-encoding': 'gzip' })
    for (const byte of packed) response.write(Buffer.of(byte))
    response.end()
  })
  await using client = opened()
  const pieces: Uint8Array[] = []
  for await (const piece of (await client.get(server.url)).body) pieces.push(piece)
  expect(Buffer.concat(pieces).equals(content)).toBe(true)
  expect(pieces.length).toBeLessThan(packed.length / 20)
})

test('no connection is left to a host that goes on after what nobody can unpack', { timeout: 60_000 }, async () => {
  const { promise: closed, resolve } = Promise.withResolvers<void>()
  await using server = await httpServer((_, response) => {
    response.on('close', resolve)
    drip(response, 200, { 'content-encoding': 'gzip' })
  })
  await using client = opened()
  const response = await client.get(server.url, { limits: { idleMs: 600_000, totalMs: 600_000, bytesPerSecond: 0 } })
  await expect(response.bytes()).rejects.toThrow(TransientError)
  await closed
})

test('a connection that is not used is closed, though its host would keep it', { timeout: 60_000 }, async () => {
  const { promise: closed, resolve } = Promise.withResolvers<void>()
  const server = createServer((_, response) => response.end('hello'))
  server.keepAliveTimeout = 600_000
  server.on('connection', (socket) => socket.on('close', resolve))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  await using client = opened()
  const response = await client.get(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  expect(response.headers['keep-alive']).toBe('timeout=600')
  expect((await response.bytes()).toString()).toBe('hello')
  await closed
  server.close()
})
