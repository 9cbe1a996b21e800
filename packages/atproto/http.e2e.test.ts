import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { HttpClient, type HttpLimits } from './http.ts'
import { dnsServer } from './testing/dns-server.ts'
import { drip, httpServer, type Handler } from './testing/servers.ts'

async function fetched(handler: Handler, limits: Partial<HttpLimits> = {}, signal?: AbortSignal): Promise<Buffer> {
  await using server = await httpServer(handler)
  await using client = disposable(new HttpClient({ allowPrivate: true }))
  const response = await client.get(server.url, { limits, signal })
  return await response.bytes()
}

function disposable(client: HttpClient): HttpClient & AsyncDisposable {
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.close() })
}

function refusing(reason: string) {
  return expect.objectContaining({ name: 'RefusedError', reason })
}

describe('strangers cannot send us into our own network', () => {
  test.each([
    'https://127.0.0.1/',
    'https://[::1]/',
    'https://169.254.169.254/latest/meta-data',
    'https://10.0.0.1:8443/',
    'https://0x7f.1/',
  ])('%s', async (url) => {
    await using client = disposable(new HttpClient())
    await expect(client.get(url)).rejects.toThrow(refusing('http-private-address'))
  })

  test('by a name that resolves to an address of ours', async () => {
    await using server = await httpServer((_, response) => response.end('secret'))
    await using client = disposable(new HttpClient())
    await expect(client.get(`https://localhost:${server.host.split(':')[1]}/`)).rejects.toThrow(
      refusing('http-private-address'),
    )
    expect(server.requests).toEqual([])
  })

  test('by another scheme, without TLS, or with no URL at all', async () => {
    await using client = disposable(new HttpClient())
    for (const url of ['http://example.com/', 'file:///etc/passwd', 'data:text/plain,x', 'no url']) {
      await expect(client.get(url)).rejects.toThrow(refusing('http-bad-url'))
    }
  })

  test('by a redirect of a host that is allowed', async () => {
    await using inside = await httpServer((_, response) => response.end('secret'))
    await using outside = await httpServer((_, response) =>
      response.writeHead(302, { location: `https://${inside.host}/` }).end(),
    )
    await using client = disposable(new HttpClient({ allowOrigins: [outside.url] }))
    await expect(client.get(outside.url)).rejects.toThrow(refusing('http-private-address'))
    expect(outside.requests).toHaveLength(1)
    expect(inside.requests).toEqual([])
  })

  test('by another port of a host that is allowed', async () => {
    await using server = await httpServer((_, response) => response.end('hello'))
    await using neighbour = await httpServer((_, response) => response.end('secret'))
    await using client = disposable(new HttpClient({ allowOrigins: ['http://127.0.0.1', server.url] }))
    await expect(client.get(neighbour.url)).rejects.toThrow(refusing('http-bad-url'))
    await expect(client.get(`https://${server.host}/`)).rejects.toThrow(refusing('http-private-address'))
    expect(neighbour.requests).toEqual([])
    expect(server.requests).toEqual([])
  })

  test('origins that are allowed by name are, and one may send us to another', async () => {
    await using server = await httpServer((_, response) => response.end('hello'))
    await using other = await httpServer((_, response) => response.writeHead(302, { location: server.url }).end())
    await using client = disposable(new HttpClient({ allowOrigins: [`${server.url}/`, other.url] }))
    expect((await (await client.get(server.url)).bytes()).toString()).toBe('hello')
    expect((await (await client.get(other.url)).bytes()).toString()).toBe('hello')
  })
})

test('names whose name server does not answer keep no other name waiting, and are given up', async () => {
  // A loopback address is refused, so the refusal shows that the name was looked up.
  await using dns = await dnsServer((name) => (name.startsWith('silent') ? 'silence' : { addresses: ['127.0.0.1'] }))
  await using client = disposable(new HttpClient({ nameservers: [dns.address], connectMs: 2_000 }))
  let ended = 0
  const silent = Array.from({ length: 8 }, async (_, i) => {
    const error = await client.get(`https://silent${i}.example/`).catch((caught: unknown) => caught)
    ended++
    return error
  })
  await expect.poll(() => new Set(dns.questions).size).toBe(8)
  await expect(client.get('https://good.example/')).rejects.toThrow(refusing('http-private-address'))
  expect(ended, 'they are still silent').toBe(0)
  for (const error of await Promise.all(silent)) expect(error).toBeInstanceOf(TransientError)
})

describe('redirects', () => {
  test('are followed, and the answer says where it came from', async () => {
    await using server = await httpServer((request, response) => {
      if (request.url === '/b') response.end('there')
      else response.writeHead(307, { location: '/b' }).end('elsewhere')
    })
    await using client = disposable(new HttpClient({ allowPrivate: true }))
    const response = await client.get(`${server.url}/a`)
    expect((await response.bytes()).toString()).toBe('there')
    expect(response.url.href).toBe(`${server.url}/b`)
  })

  test('wait for whoever may ask the other host, and end with what they throw', async () => {
    await using other = await httpServer((_, response) => response.end('there'))
    await using server = await httpServer((_, response) => response.writeHead(302, { location: other.url }).end())
    await using client = disposable(new HttpClient({ allowPrivate: true }))
    const asked: string[] = []
    const onRedirect = async (to: URL) => {
      await new Promise((resolve) => setTimeout(resolve, 20))
      asked.push(`${to.host} ${other.requests.length}`)
    }
    expect((await (await client.get(server.url, { onRedirect })).bytes()).toString()).toBe('there')
    expect(asked).toEqual([`${other.host} 0`])
    const refused = client.get(server.url, { onRedirect: () => Promise.reject(new TransientError('busy')) })
    await expect(refused).rejects.toThrow('busy')
    expect(other.requests).toHaveLength(1)
  })

  test('in a circle end with a refusal', async () => {
    await using server = await httpServer((_, response) => response.writeHead(301, { location: '/' }).end())
    await using client = disposable(new HttpClient({ allowPrivate: true }))
    await expect(client.get(server.url)).rejects.toThrow(refusing('http-too-many-redirects'))
    expect(server.requests).toHaveLength(6)
  })
})

const text = Buffer.from('hello '.repeat(10_000))
const ENCODINGS: [string, (bytes: Buffer) => Buffer][] = [
  ['gzip', gzipSync],
  ['deflate', deflateSync],
]

describe('bodies', () => {
  test.each(ENCODINGS)('%s is decompressed', async (encoding, compress) => {
    const body = await fetched((_, response) =>
      response.writeHead(200, { 'content-encoding': encoding }).end(compress(text)),
    )
    expect(body.equals(text)).toBe(true)
  })

  test('gzip is asked for, and Brotli not taken: its decoder would hold 16 MB', async () => {
    let asked: unknown
    const brotli = fetched(({ headers }, response) => {
      asked = headers['accept-encoding']
      response.writeHead(200, { 'content-encoding': 'br' }).end(brotliCompressSync(text))
    })
    await expect(brotli).rejects.toThrow(refusing('http-bad-encoding'))
    expect(asked).toBe('gzip')
  })

  test.each(ENCODINGS)('a bomb of %s counts as what it becomes', async (encoding, compress) => {
    const bomb = compress(Buffer.alloc(30_000_000))
    expect(bomb.length).toBeLessThan(100_000)
    const body = fetched((_, response) => response.writeHead(200, { 'content-encoding': encoding }).end(bomb), {
      bytes: 1_000_000,
    })
    await expect(body).rejects.toThrow(refusing('http-too-large'))
  })

  test('what is not compressed as it says is an error to be tried again, and an unknown way a refusal', async () => {
    const broken = fetched((_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end('not gzip'))
    await expect(broken).rejects.toThrow(TransientError)
    const unknown = fetched((_, response) => response.writeHead(200, { 'content-encoding': 'rot13' }).end('uryyb'))
    await expect(unknown).rejects.toThrow(refusing('http-bad-encoding'))
  })

  test.each(ENCODINGS)('that are cut short are errors, though the answer ends well: %s', async (encoding, compress) => {
    const whole = compress(text)
    for (const size of [0, 5, Math.floor(whole.length / 2), whole.length - 1]) {
      const cut = fetched((_, response) =>
        response.writeHead(200, { 'content-encoding': encoding }).end(whole.subarray(0, size)),
      )
      await expect(cut, `${size} of ${whole.length} bytes`).rejects.toThrow(TransientError)
    }
  })

  test('that are cut short are errors', async () => {
    const plain = fetched((_, response) => {
      response.writeHead(200, { 'content-length': '1000' }).write('short')
      setTimeout(() => response.destroy(), 20)
    })
    await expect(plain).rejects.toThrow(TransientError)
  })
})

describe('a host that takes its time is given up', () => {
  const endless: Handler = (_, response) => drip(response, 200)

  test.each<[string, Handler, Partial<HttpLimits>, RegExp]>([
    ['before the headers', () => undefined, { headersMs: 100 }, /failed/],
    ['within the body', (_, response) => response.write('x'), { idleMs: 100 }, /failed/],
    ['altogether', endless, { totalMs: 300 }, /no end within 300 ms/],
    ['by being slow', endless, { idleMs: 200, bytesPerSecond: 1e6 }, /bytes a second are too few/],
  ])('%s', async (_, handler, limits, message) => {
    const error = await fetched(handler, limits).then(
      () => undefined,
      (caught: unknown) => caught,
    )
    expect(error).toBeInstanceOf(TransientError)
    expect((error as Error).message).toMatch(message)
  })

  test(
    'also when its answer is not wanted: it is let go of, and no connection is left',
    { timeout: 60_000 },
    async () => {
      const { promise: closed, resolve } = Promise.withResolvers<void>()
      await using server = await httpServer((request, response) => {
        response.on('close', resolve)
        endless(request, response)
      })
      await using client = disposable(new HttpClient({ allowPrivate: true }))
      const response = await client.get(server.url, { limits: { totalMs: 300 } })
      await Promise.all([response.discard(), closed])
    },
  )

  test('and no connection is left to one whose encoding nobody knows', { timeout: 60_000 }, async () => {
    const { promise: closed, resolve } = Promise.withResolvers<void>()
    await using server = await httpServer((_, response) => {
      response.on('close', resolve)
      drip(response, 200, { 'content-encoding': 'rot13' })
    })
    await using client = disposable(new HttpClient({ allowPrivate: true }))
    await expect(client.get(server.url)).rejects.toThrow(refusing('http-bad-encoding'))
    await closed
  })

  test('a packed page that nobody wants does not wait for that', { timeout: 60_000 }, async () => {
    // More than the decoder and the sockets buffer before the body is read.
    const page = gzipSync(Buffer.alloc(32_000_000), { level: 0 })
    const { promise: closed, resolve } = Promise.withResolvers<void>()
    await using server = await httpServer((_, response) => {
      response.on('close', resolve)
      response.writeHead(404, { 'content-encoding': 'gzip' }).end(page)
    })
    await using client = disposable(new HttpClient({ allowPrivate: true }))
    const response = await client.get(server.url, { limits: { totalMs: 300_000 } })
    await Promise.all([response.discard(), closed])
  })

  test('but it is not slow while we are busy', async () => {
    await using server = await httpServer((_, response) => response.end(Buffer.alloc(300_000)))
    await using client = disposable(new HttpClient({ allowPrivate: true }))
    const response = await client.get(server.url, { limits: { idleMs: 50, bytesPerSecond: 1e6 } })
    let bytes = 0
    for await (const chunk of response.body) {
      bytes += chunk.length
      await new Promise((resolve) => setTimeout(resolve, 60))
    }
    expect(bytes).toBe(300_000)
  })

  test('an abort of ours is our reason, and no failure of theirs', async () => {
    const abort = new AbortController()
    const body = fetched(() => setTimeout(() => abort.abort(new Error('enough')), 20), {}, abort.signal)
    await expect(body).rejects.toThrow('enough')
    await expect(fetched(() => undefined, {}, AbortSignal.abort(new Error('before')))).rejects.toThrow('before')
  })

  test('a host that is not there is tried again', async () => {
    const server = await httpServer(() => undefined)
    await server[Symbol.asyncDispose]()
    await using client = disposable(new HttpClient({ allowPrivate: true }))
    const error = await client.get(server.url).catch((caught: unknown) => caught)
    expect(error).toBeInstanceOf(TransientError)
    expect(error).not.toBeInstanceOf(RefusedError)
  })
})
