import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { RefusedError } from '@sluice/runtime/errors.ts'
import { parseDidDocument } from './identity.ts'
import { parsePlcLine, plcExportLines, type ExportOptions } from './plc-export.ts'

const DID = 'did:plc:ewvi7nxzyoun6zhxrhs64oiz'
const KEY = 'did:key:zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF'
const { signal } = new AbortController()
/** A file is read without a network. */
const offline = { get: () => Promise.reject(new Error('nothing is asked of a host')) }
const createdAt = '2026-06-01T00:00:00.123Z'

function line(operation: unknown, more: object = {}): string {
  return JSON.stringify({ did: DID, operation, cid: 'bafyreia', nullified: false, createdAt, ...more })
}

const modern = {
  type: 'plc_operation',
  alsoKnownAs: ['at://Alice.Example.com'],
  verificationMethods: { atproto: KEY, atproto_label: KEY },
  services: {
    atproto_pds: { type: 'AtprotoPersonalDataServer', endpoint: 'https://pds.example.com' },
    atproto_labeler: { type: 'AtprotoLabeler', endpoint: 'https://labels.example.com' },
  },
  rotationKeys: [KEY],
  prev: null,
  sig: 'x',
}

test('an operation of either form is the document that the directory would show', () => {
  const { document, ...rest } = parsePlcLine(line(modern))!
  expect(rest).toEqual({ did: DID, createdAt: Date.parse(createdAt) })
  expect(parseDidDocument(DID, document)).toEqual({
    did: DID,
    handle: 'alice.example.com',
    pds: 'https://pds.example.com',
    signingKey: KEY,
    labeler: { endpoint: 'https://labels.example.com', signingKey: KEY },
  })
  const first = { type: 'create', handle: 'alice.example.com', service: 'https://pds.example.com', signingKey: KEY }
  expect(parseDidDocument(DID, parsePlcLine(line(first))!.document)).toEqual({
    did: DID,
    handle: 'alice.example.com',
    pds: 'https://pds.example.com',
    signingKey: KEY,
  })
  const odd = { ...first, handle: { toString: 'no function' } }
  expect(parsePlcLine(line(odd))!.document).toMatchObject({ id: DID, alsoKnownAs: [] })
})

test('an ended DID has no document; what was made void is nothing', () => {
  expect(parsePlcLine(line({ type: 'plc_tombstone' }))).toEqual({
    did: DID,
    createdAt: Date.parse(createdAt),
    document: undefined,
  })
  expect(parsePlcLine(line(modern, { nullified: true }))).toBeUndefined()
})

test.each([
  ['', 'nothing'],
  ['<html>', 'no JSON'],
  ['null', 'no object'],
  [line(modern, { did: 'alice' }), 'no DID'],
  [line(modern, { createdAt: 'yesterday' }), 'no time'],
  [line(null), 'no operation'],
])('a line that is no operation is refused: %#', (text) => {
  expect(() => parsePlcLine(text)).toThrow(RefusedError)
})

test('parts that are not what they should be are left out', () => {
  const { document } = parsePlcLine(line({ type: 'plc_operation', alsoKnownAs: 'x', verificationMethods: null, services: { a: 1 } }))! // prettier-ignore
  expect(parseDidDocument(DID, document)).toEqual({ did: DID })
})

test('a zipped export that breaks off is an error, however busy its reader is at that moment', async () => {
  await using stack = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'sluice-export-'))
  stack.defer(() => rm(dir, { recursive: true }))
  const path = join(dir, 'cut.jsonl.gz')
  const lines = Array.from({ length: 14 }, (_, i) => line({ ...modern, prev: `${i}`.repeat(200) }))
  await writeFile(path, gzipSync(lines.join('\n')).subarray(0, -20))
  let read = 0
  for (let busyMs = 0; busyMs < 5; busyMs++) {
    await expect(async () => {
      for await (const _ of plcExportLines(path, { http: offline, signal })) {
        read++
        await wait(busyMs)
      }
    }).rejects.toThrow('unexpected end of file')
  }
  expect(read).toBeGreaterThan(0)
})

/** A directory's `/export`: of these operations so many after a time. */
function directory(operations: readonly string[], count: number): { http: ExportOptions['http']; asked: string[] } {
  const asked: string[] = []
  const get: ExportOptions['http']['get'] = async (url) => {
    const after = new URL(url).searchParams.get('after') ?? ''
    asked.push(after)
    const page = operations.filter((text) => (JSON.parse(text) as { createdAt: string }).createdAt > after)
    return { status: 200, bytes: async () => Buffer.from(page.slice(0, count).join('\n')) } as never
  }
  return { http: { get }, asked }
}

test.each([1, 2, 3, 4, 5, 9])('operations of one time are told once each, wherever pages of %i end', async (count) => {
  const [first, second, third] = ['01', '02', '03'].map((second) => `2026-06-01T00:00:${second}.000Z`)
  const times = [first, second, second, third].slice(0, count === 1 ? 2 : 4)
  const operations = times.map((at, i) => line({ ...modern, prev: `${i}` }, { createdAt: at }))
  const { http, asked } = directory(operations, count)
  const told = await Array.fromAsync(plcExportLines('https://plc.example/export', { http, signal }))
  expect(told).toEqual(operations)
  expect(asked.at(-1)).toBe(times.at(-1))
})

test('a directory that takes no notice of the time it is asked for is refused', async () => {
  const { http } = directory([line(modern), line(modern, { createdAt: '2026-06-02T00:00:00.000Z' })], 2)
  const deaf: ExportOptions['http'] = { get: async (_, options) => http.get('https://plc.example/export', options) }
  const reading = Array.fromAsync(plcExportLines('https://plc.example/export', { http: deaf, signal }))
  await expect(reading).rejects.toThrow(RefusedError)
})

test('the lines of an export end at any kind of line break, and a reader may leave or be told to', async () => {
  await using stack = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'sluice-export-'))
  stack.defer(() => rm(dir, { recursive: true }))
  const path = join(dir, 'export.jsonl')
  await writeFile(path, 'ä\r\n\nb\nc')
  const options = { http: offline, signal }
  expect(await Array.fromAsync(plcExportLines(path, options))).toEqual(['ä', 'b', 'c'])
  for await (const first of plcExportLines(path, options)) {
    expect(first).toBe('ä')
    break
  }
  const told = new AbortController()
  const rest = plcExportLines(path, { ...options, signal: told.signal })
  told.abort(new Error('enough'))
  await expect(Array.fromAsync(rest)).rejects.toThrow('enough')
})
