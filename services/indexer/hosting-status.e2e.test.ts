/** A1, A2: what the host of an account says of it, where that host is an old one, or nobody answers. */
import type { ServerResponse } from 'node:http'
import { HttpClient } from '@sluice/atproto/http.ts'
import { MemoryIdentityCache } from '@sluice/atproto/identity-cache.ts'
import { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import { httpServer, json, type TestServer } from '@sluice/atproto/testing/servers.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import type { AccountEvent } from '@sluice/events/stream-event.ts'
import { applyBatch } from '@sluice/indexing/apply-batch.ts'
import { indexOn } from '@sluice/indexing/testing/index-on.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { Metrics } from '@sluice/runtime/metrics.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { AccountChecks } from './check-accounts.ts'
import { BusyOwnerError, HostPace, SlowHostError } from './host-pace.ts'
import { askHostingStatus, type Asking, type StatusSources, type HostingStatus } from './hosting-status.ts'

const did = testDid('of an old host')

interface OldHost extends AsyncDisposable {
  server: TestServer
  sources: StatusSources & { identities: IdentityResolver }
}

/**
 * A directory and a host that does not know `getRepoStatus`.
 * @param latest what it says of the latest commit; a string is an error
 */
async function oldHost(latest: string | object): Promise<OldHost> {
  await using stack = new AsyncDisposableStack()
  const server = stack.use(
    await httpServer((request, response) => {
      const { pathname } = new URL(request.url!, 'http://host')
      if (!pathname.startsWith('/xrpc/')) {
        const service = { id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: server.url }
        return json(response, { id: did, alsoKnownAs: [], service: [service] })
      }
      if (pathname.endsWith('.getRepoStatus')) return json(response, { error: 'MethodNotImplemented' }, 501)
      if (typeof latest === 'string') return json(response, { error: latest }, 400)
      return json(response, latest)
    }),
  )
  const sources = sourcesOf(stack, server)
  const resources = stack.move()
  return { server, sources, [Symbol.asyncDispose]: () => resources.disposeAsync() }
}

function sourcesOf(stack: AsyncDisposableStack, { url: plcUrl }: TestServer): OldHost['sources'] {
  const http = stack.adopt(new HttpClient({ allowPrivate: true }), (client) => client.close())
  return { identities: new IdentityResolver({ plcUrl, http, cache: new MemoryIdentityCache() }), xrpc: new XrpcClient(http) } // prettier-ignore
}

const asking = (options: Partial<Asking> = {}): Asking => {
  return { pace: new HostPace(), inHaste: true, signal: new AbortController().signal, ...options }
}

const HEAD = { cid: 'bafyreib2rxk3rh6kzwq6tnxgvqnpdjqjmfjxqzq4v2kbh5y3hbhcpx2f6a', rev: '3kabcdefghijk' }

test.for<[string, string | object, (host: string) => HostingStatus]>([
  ['has: it does not say whether it is active', HEAD, (host) => ({ kind: 'status-unknown', host })],
  ['says is away', 'RepoDeactivated', (host) => ({ kind: 'hosted', host, active: false, status: 'deactivated' })],
  ['says it suspended', 'RepoSuspended', (host) => ({ kind: 'hosted', host, active: false, status: 'suspended' })],
  ['says it took down', 'RepoTakendown', (host) => ({ kind: 'hosted', host, active: false, status: 'takendown' })],
  ['does not know', 'RepoNotFound', () => ({ kind: 'gone' })],
])('A1 an account that an old host %s', async ([, latest, wanted]) => {
  await using old = await oldHost(latest)
  expect(await askHostingStatus(old.sources, did, asking())).toEqual(wanted(old.server.host))
  expect(old.server.requests.slice(1)).toEqual([
    expect.stringContaining('.getRepoStatus?'),
    expect.stringContaining('.getLatestCommit?'),
  ])
})

test('A1 that an old host has the account is no answer to how it stands: what is held stays, and it is asked again', async ({
  database,
}) => {
  await using old = await oldHost(HEAD)
  await using index = indexOn(database)
  const said = (second: number, active: boolean): AccountEvent => {
    const time = `2026-01-01T00:00:0${second}.000Z`
    return { type: 'account', seq: second, time, did, active, ...(active ? {} : { status: 'deactivated' }) }
  }
  await applyBatch(index, [said(1, true), said(2, false)])
  await index.db.query(`update account_check set "dueAt" = ''`)
  const metrics = new Metrics({ role: 'test', build: 'test' })
  const log = createLogger({ role: 'test', build: 'test', level: 'fatal', secrets: [] })
  const stopping = new AbortController()
  const running = new AccountChecks({ db: index.db, ...old.sources, log, metrics, pollMs: 20 }).run(stopping.signal)
  const failing = async () => (await index.db.query(`select from account_check where state = 'failing'`)).rowCount
  await expect.poll(failing).toBe(1)
  stopping.abort()
  await running
  expect(await metrics.render()).toContain('sluice_account_checks_total{outcome="unknown"} 1')
  expect((await index.db.query('select "upstreamStatus" as status from actor')).rows).toEqual([
    { status: 'deactivated' },
  ])
})

test('A2 the PLC directory forgets nobody: one that does not know an account is no answer; the host of a did:web may', async () => {
  await using stack = new AsyncDisposableStack()
  const server = stack.use(
    await httpServer((_, response) => json(response, { message: `DID not registered: ${did}` }, 404)),
  )
  const sources = sourcesOf(stack, server)
  await expect(askHostingStatus(sources, did, asking())).rejects.toThrow(TransientError)
  expect(server.requests).toContain(`/${did}`)
  const web = `did:web:localhost%3A${server.host.split(':')[1]}`
  expect(await askHostingStatus(sources, web, asking())).toEqual({ kind: 'no-host' })
})

test('D9 a stop does not wait for a directory that keeps silent', async () => {
  await using stack = new AsyncDisposableStack()
  const asked = Promise.withResolvers<void>()
  const server = stack.use(await httpServer(() => asked.resolve()))
  const stopping = new AbortController()
  const found = askHostingStatus(sourcesOf(stack, server), did, asking({ signal: stopping.signal }))
  await asked.promise
  stopping.abort()
  await expect(found).rejects.toMatchObject({ name: 'AbortError' })
})

test('A1 the host of a did:web that was slow to say who it is is not asked where others wait', async () => {
  await using stack = new AsyncDisposableStack()
  let nowMs = 0
  const server = stack.use(
    await httpServer((_, response) => {
      nowMs += 9_900
      response.writeHead(503).end()
    }),
  )
  const of = `did:web:localhost%3A${server.host.split(':')[1]}`
  const pace = new HostPace(() => nowMs)
  const ask = (inHaste: boolean) => askHostingStatus(sourcesOf(stack, server), of, asking({ pace, inHaste }))
  await expect(ask(true)).rejects.toThrow('answers 503')
  await expect(ask(true)).rejects.toThrow(SlowHostError)
  expect(server.requests.length).toBe(1)
  await expect(ask(false)).rejects.toThrow('answers 503')
})

test('A1 the host of a did:web that waited for the turn of others before it was asked was not slow', async () => {
  await using stack = new AsyncDisposableStack()
  let nowMs = 0
  const open = new Map<string, ServerResponse>()
  const server = stack.use(
    await httpServer((request, response) => void open.set(request.url!.split('/')[1]!, response)),
  )
  const client = stack.adopt(new HttpClient({ allowPrivate: true }), (client) => client.close())
  // Every name leads to this server.
  const http: Pick<HttpClient, 'get'> = {
    get: (url, options) => client.get(`${server.url}/${new URL(url).host}`, options),
  }
  const identities = new IdentityResolver({ plcUrl: server.url, http, cache: new MemoryIdentityCache(), webConcurrency: 1 }) // prettier-ignore
  const pace = new HostPace(() => nowMs)
  const ask = (host: string) => askHostingStatus({ identities, xrpc: new XrpcClient(client) }, `did:web:${host}`, asking({ pace })) // prettier-ignore
  const silent = ask('silent.example')
  await expect.poll(() => [...open.keys()]).toEqual(['silent.example'])
  const waiting = ask('waiting.test')
  nowMs += 60_000
  open.get('silent.example')!.writeHead(503).end()
  await expect(silent).rejects.toThrow('answers 503')
  await expect.poll(() => open.has('waiting.test')).toBe(true)
  open.get('waiting.test')!.writeHead(503).end()
  await expect(waiting).rejects.toThrow('answers 503')
  await expect(pace.ask('silent.example', true, async () => 'asked')).rejects.toThrow(SlowHostError)
  expect(await pace.ask('waiting.test', true, async () => 'asked')).toBe('asked')
})

test('A1 one that finds a host of its owner being asked where nobody waits costs the directory no question', async () => {
  await using stack = new AsyncDisposableStack()
  const later: ServerResponse[] = []
  const server = stack.use(
    await httpServer((request, response) => {
      if (request.url!.startsWith('/xrpc/')) return void later.push(response)
      const service = { id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: server.url }
      json(response, { id: request.url!.slice(1), service: [service] })
    }),
  )
  const { xrpc } = sourcesOf(stack, server)
  const http = stack.adopt(new HttpClient({ allowPrivate: true }), (client) => client.close())
  const cache = new MemoryIdentityCache()
  const identities = new IdentityResolver({ plcUrl: server.url, http, cache, refreshEveryMs: 0 })
  const pace = new HostPace()
  const ask = () => askHostingStatus({ identities, xrpc }, did, asking({ pace, inHaste: false }))
  const first = ask()
  await expect.poll(() => later.length).toBe(1)
  const asked = server.requests.length
  for (let i = 0; i < 3; i++) await expect(ask()).rejects.toThrow(BusyOwnerError)
  expect(server.requests.length).toBe(asked)
  json(later.pop()!, { did, active: true, rev: HEAD.rev })
  expect(await first).toMatchObject({ kind: 'hosted' })
})
