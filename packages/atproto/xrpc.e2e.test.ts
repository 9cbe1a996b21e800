import { afterAll, describe, expect, test } from 'vitest'
import { TransientError } from '@sluice/runtime/errors.ts'
import { HttpClient } from './http.ts'
import { readRepoExport } from './repo-export.ts'
import { rateLimitOf, retryAfterOf, type RateLimit } from './rate-limit.ts'
import { httpServer, json, type Handler } from './testing/servers.ts'
import { populatedRepo } from './testing/world.ts'
import { NotXrpcError, RateLimitedError, XrpcClient, XrpcRefusedError, type XrpcRefusal } from './xrpc.ts'

const http = new HttpClient({ allowPrivate: true })
afterAll(() => http.close())

/** A 404 whose body ends early. */
const breakingOff: Handler = (_, response) => {
  response.writeHead(404, { 'content-length': '100' }).write('{"error":"RepoNotFound"')
  setTimeout(() => response.destroy(), 20)
}

const DID = 'did:plc:z72i7hdynmk6r22z27h6tvur'

async function call<T>(
  handler: Handler,
  work: (client: XrpcClient, url: string) => Promise<T>,
  seen: RateLimit[] = [],
): Promise<T> {
  await using server = await httpServer(handler)
  return await work(new XrpcClient(http, { onRateLimit: (_, limit) => seen.push(limit) }), server.url)
}

async function failure(handler: Handler): Promise<unknown> {
  return call(handler, (client, url) => client.getRepoStatus(url, DID)).catch((error: unknown) => error)
}

describe('answers', () => {
  test('pages of repositories, with what the host says of each', async () => {
    await using server = await httpServer((request, response) => {
      const cursor = new URL(request.url!, 'http://x').searchParams.get('cursor')
      if (cursor === null)
        json(response, {
          cursor: 'opaque/1',
          repos: [{ did: DID, head: 'bafy', rev: '3k', active: false, status: 'takendown' }, { did: 5 }, null],
        })
      else json(response, { repos: [{ did: DID, head: 'bafy', rev: '3k' }] })
    })
    const client = new XrpcClient(http)
    const first = await client.listRepos(server.url, { limit: 1000 })
    expect(first).toEqual({
      cursor: 'opaque/1',
      items: [{ did: DID, head: 'bafy', rev: '3k', active: false, status: 'takendown' }],
      refused: 2,
    })
    const second = await client.listRepos(server.url, { limit: 1000, cursor: first.cursor })
    expect(second).toEqual({ cursor: undefined, items: [{ did: DID, head: 'bafy', rev: '3k' }], refused: 0 })
    expect(server.requests).toEqual([
      '/xrpc/com.atproto.sync.listRepos?limit=1000',
      '/xrpc/com.atproto.sync.listRepos?limit=1000&cursor=opaque%2F1',
    ])
  })

  test('hosts, status, head', async () => {
    const hosts = await call(
      (_, response) => json(response, { hosts: [{ hostname: 'a.test', status: 'active' }] }),
      (client, url) => client.listHosts(url),
    )
    expect(hosts).toEqual({ cursor: undefined, items: [{ hostname: 'a.test', status: 'active' }], refused: 0 })
    const status = { did: DID, active: false, status: 'deactivated' }
    expect(
      await call(
        (_, response) => json(response, status),
        (client, url) => client.getRepoStatus(url, DID),
      ),
    ).toEqual(status)
    const head = { cid: 'bafy', rev: '3k' }
    expect(
      await call(
        (_, response) => json(response, head),
        (client, url) => client.getLatestCommit(url, DID),
      ),
    ).toEqual(head)
  })

  test('a host whose name is longer than names are is left out', async () => {
    const hosts = await call(
      (_, response) => json(response, { hosts: [{ hostname: `${'a'.repeat(1_000)}.test` }, { hostname: 'a.test' }] }),
      (client, url) => client.listHosts(url),
    )
    expect(hosts).toEqual({ cursor: undefined, items: [{ hostname: 'a.test' }], refused: 1 })
  })

  test('an error whose name is that of something else is one that nobody knows', async () => {
    for (const name of ['constructor', '__proto__', 'toString']) {
      const answered = call(
        (_, response) => json(response, { error: name }, 400),
        (client, url) => client.getLatestCommit(url, DID),
      )
      await expect(answered).rejects.toMatchObject({ reason: 'xrpc-refused', error: name })
    }
  })

  test('an error has as much of the text of a host as a line of a log can take', async () => {
    const error = await call(
      (_, response) => json(response, { error: 'e'.repeat(10_000), message: 'm'.repeat(10_000) }, 400),
      (client, url) => client.listHosts(url),
    ).catch((caught: unknown) => caught as Error)
    expect(error).toMatchObject({ reason: 'xrpc-refused' })
    expect((error as Error).message.length).toBeLessThan(500)
  })

  test('a page with a cursor that is too long to be kept is refused', async () => {
    const page = (chars: number) =>
      call(
        (_, response) => json(response, { repos: [], cursor: 'x'.repeat(chars) }),
        (client, url) => client.listRepos(url),
      )
    expect((await page(2_048)).cursor).toHaveLength(2_048)
    await expect(page(2_049)).rejects.toMatchObject({ reason: 'xrpc-bad-response' })
  })

  test('why an account is not active is a short text, or it is not said: what else a host puts there is left out', async () => {
    for (const status of [5, null, {}, ['takendown'], true]) {
      const head = { did: DID, head: 'bafy', rev: '3k' }
      const page = await call(
        (_, response) =>
          json(response, {
            repos: [
              { ...head, active: false, status },
              { ...head, active: 'no', status },
            ],
          }),
        (client, url) => client.listRepos(url),
      )
      expect(page).toEqual({ cursor: undefined, items: [{ ...head, active: false }, head], refused: 0 })
      const answer = await call(
        (_, response) => json(response, { did: DID, active: false, status, rev: 7 }),
        (client, url) => client.getRepoStatus(url, DID),
      )
      expect(answer).toEqual({ did: DID, active: false })
      const hosts = await call(
        (_, response) => json(response, { hosts: [{ hostname: 'a.test', status }] }),
        (client, url) => client.listHosts(url),
      )
      expect(hosts.items).toEqual([{ hostname: 'a.test' }])
    }
    for (const status of ['a\u0000b', 'x'.repeat(65), 'half \ud800']) {
      const answer = await call(
        (_, response) => json(response, { did: DID, active: false, status, rev: '3k' }),
        (client, url) => client.getRepoStatus(url, DID),
      )
      expect(answer).toEqual({ did: DID, active: false, rev: '3k' })
    }
  })

  test('a repository streams into its verification', async () => {
    const repo = populatedRepo('xrpc', 300)
    await using server = await httpServer((_, response) => response.end(repo.export()))
    const response = await new XrpcClient(http).getRepo(server.url, repo.did)
    using result = await readRepoExport(response.body, { did: repo.did, signingKey: repo.key.did })
    expect(result.recordCount).toBe(300)
    expect(server.requests).toEqual([`/xrpc/com.atproto.sync.getRepo?did=${encodeURIComponent(repo.did)}`])
  })

  test.each([
    ['a list', '[]'],
    ['another account', `{"did":"did:plc:other","active":true}`],
    ['a part', `{"did":"${DID}"}`],
  ])('%s is a bad response', async (_, body) => {
    expect(await failure((_, response) => response.end(body))).toMatchObject({ reason: 'xrpc-bad-response' })
  })
})

describe('failures say what to do', () => {
  test.each<[XrpcRefusal, number, string | undefined]>([
    ['repo-not-found', 400, 'RepoNotFound'],
    ['repo-not-found', 404, 'RepoNotFound'],
    ['repo-takendown', 400, 'RepoTakendown'],
    ['repo-suspended', 400, 'RepoSuspended'],
    ['repo-deactivated', 400, 'RepoDeactivated'],
    ['not-implemented', 501, 'MethodNotImplemented'],
    ['not-implemented', 501, undefined],
    ['unauthorized', 401, 'AuthMissing'],
    ['unauthorized', 403, 'Forbidden'],
    ['xrpc-refused', 400, 'InvalidRequest'],
    ['xrpc-refused', 404, 'NotFound'],
  ])('%s: %i %s', async (reason, status, error) => {
    const caught = await failure((_, response) => json(response, { error, message: 'because' }, status))
    expect(caught).toBeInstanceOf(XrpcRefusedError)
    expect(caught).toMatchObject({ reason, status, error })
    if (error) expect((caught as Error).message).toContain(error)
  })

  test.each([500, 502, 503, 504, 520, 408])('%i is tried again', async (status) => {
    const caught = await failure((_, response) =>
      json(response, { error: 'InternalServerError' }, status, { 'retry-after': '7' }),
    )
    expect(caught).toBeInstanceOf(TransientError)
    expect(caught).not.toBeInstanceOf(RateLimitedError)
    expect(caught).toMatchObject({ retryAfterMs: 7_000 })
  })

  test('429 parks the host for as long as it says, or as it seems, and neither for no time nor for ever', async () => {
    const cases: [Record<string, string>, number][] = [
      [{ 'retry-after': '30' }, 30_000],
      [{ 'ratelimit-reset': '40' }, 40_000],
      [{}, 60_000],
      [{ 'retry-after': '0' }, 1_000],
      [{ 'retry-after': 'Wed, 21 Oct 2015 07:28:00 GMT' }, 1_000],
      [{ 'ratelimit-reset': '1445412480' }, 1_000],
      [{ 'retry-after': '1.5' }, 60_000],
      [{ 'retry-after': '99999' }, 330_000],
      [{ 'ratelimit-reset': '99999' }, 330_000],
    ]
    for (const [headers, retryAfterMs] of cases) {
      const caught = await failure((_, response) => json(response, { error: 'RateLimitExceeded' }, 429, headers))
      expect(caught).toBeInstanceOf(RateLimitedError)
      expect(caught).toMatchObject({ retryAfterMs })
    }
  })

  test('an error page with 5xx is still its status', async () => {
    const caught = await failure((_, response) => response.writeHead(502).end('<html>'))
    expect(caught).toBeInstanceOf(TransientError)
    expect(caught).not.toBeInstanceOf(NotXrpcError)
  })

  test.each<[string, Handler]>([
    ['the page of a proxy', (_, response) => response.writeHead(404, { 'retry-after': '7' }).end('<html>')],
    ['nothing', (_, response) => response.writeHead(403, { 'retry-after': '7' }).end()],
    ['a page that breaks off', breakingOff],
    ['JSON without the name of an error', (_, response) => json(response, { message: 'Not Found' }, 400)],
    ['an error that is no text', (_, response) => json(response, { error: { code: 404 } }, 401)],
    ['the words of a web framework', (_, response) => json(response, { statusCode: 404, error: 'Not Found' }, 404)],
    ['an error without a name', (_, response) => json(response, { error: '' }, 400)],
    ['an error that is not in ASCII', (_, response) => json(response, { error: 'Verboten\u00a0hier' }, 403)],
    ['a list', (_, response) => json(response, ['RepoNotFound'], 400)],
  ])('4xx with %s is not the word of the host, and tried again', async (_, handler) => {
    const caught = await failure(handler)
    expect(caught).toBeInstanceOf(NotXrpcError)
    expect(caught).toBeInstanceOf(TransientError)
    expect([undefined, 7_000]).toContain((caught as NotXrpcError).retryAfterMs)
  })

  test('nor is a page where JSON was asked for', async () => {
    const page: Handler = (_, response) => response.end('<html>Just a moment')
    expect(await failure(page)).toBeInstanceOf(NotXrpcError)
    const listed = call(page, (client, url) => client.listRepos(url))
    await expect(listed).rejects.toBeInstanceOf(NotXrpcError)
  })
})

test('the page that comes with an error is not read to its end, however large a repository may be', async () => {
  let sent = 0
  const endless: Handler = (_, response) => {
    const more = (): void => {
      while (!response.destroyed && response.write(Buffer.alloc(65_536, '<'))) sent += 65_536
    }
    response.writeHead(404).on('drain', more)
    more()
  }
  const caught = await call(endless, (client, url) => client.getRepo(url, DID)).catch((error: unknown) => error)
  expect(caught).toBeInstanceOf(NotXrpcError)
  expect(sent).toBeLessThan(20_000_000)
})

test('the limits that a host states are told', async () => {
  const seen: RateLimit[] = []
  const headers = { 'ratelimit-limit': '3000', 'ratelimit-remaining': '2999', 'ratelimit-reset': '300' }
  await call(
    (_, response) => json(response, { did: DID, active: true }, 200, headers),
    (client, url) => client.getRepoStatus(url, DID),
    seen,
  )
  expect(seen).toEqual([{ limit: 3000, remaining: 2999, resetMs: 300_000 }])
  const now = Date.UTC(2026, 10, 21)
  expect(rateLimitOf({ 'ratelimit-reset': String(now / 1000 + 60) }, now)?.resetMs).toBe(60_000)
  for (const far of ['86400', String(now / 1000 + 86_400), String(now)]) {
    expect(rateLimitOf({ 'ratelimit-reset': far }, now)?.resetMs, 'nobody waits for a day').toBe(330_000)
  }
  expect(rateLimitOf({}, now)).toBeUndefined()
  expect(retryAfterOf({ 'retry-after': new Date(now + 5_000).toUTCString() }, now)).toBe(5_000)
  for (const none of ['soon', '1.5', '-1', '']) expect(retryAfterOf({ 'retry-after': none }, now)).toBeUndefined()
})
