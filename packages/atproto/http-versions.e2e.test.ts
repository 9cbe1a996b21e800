/** The limits of what a host may send are those of HTTP/1.1, so nothing else is spoken, whatever a host offers. */
import { createSecureServer } from 'node:http2'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { HttpClient } from './http.ts'
import { LOCALHOST_CERTIFICATE, LOCALHOST_KEY } from '@sluice/sandbox/certificate.ts'

// The certificate is nobody's.
beforeEach(() => void vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0'))
afterEach(() => void vi.unstubAllEnvs())

test('a host that offers HTTP/2 is asked by HTTP/1.1', async () => {
  const versions: string[] = []
  const server = createSecureServer({ key: LOCALHOST_KEY, cert: LOCALHOST_CERTIFICATE, allowHTTP1: true })
  server.on('request', ({ httpVersion }, response) => {
    versions.push(httpVersion)
    response.end('hello')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = new HttpClient({ allowPrivate: true })
  try {
    const response = await client.get(`https://localhost:${(server.address() as AddressInfo).port}/`)
    expect((await response.bytes()).toString()).toBe('hello')
    expect(versions).toEqual(['1.1'])
  } finally {
    await client.close()
    server.close()
  }
})
