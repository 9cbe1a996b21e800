/**
 * Reads the export of a PLC directory: one operation in a line of JSON, oldest first. The source is a file, the URL of
 * such a file (both may be gzipped), or the directory's own `/export`, which is read page by page.
 * https://web.plc.directory/api/redoc#operation/Export
 *
 * The signatures of operations are not verified: an operator who imports an export trusts its source.
 */
import { createReadStream } from 'node:fs'
import { addAbortSignal, pipeline, Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import type { HttpClient, HttpLimits } from './http.ts'
import { isDid } from './syntax.ts'

export interface PlcOperation {
  did: string
  /** When the directory accepted the operation (Unix ms). */
  createdAt: number
  /** The DID document from then on. Undefined: the operation ended the DID (tombstone). */
  document: Record<string, unknown> | undefined
}

const PLC_LINE_REFUSALS = ['plc-bad-line'] as const

/**
 * Parses a line. Undefined when a later operation has made this one void (`nullified`).
 * @throws RefusedError<'plc-bad-line'>
 */
export function parsePlcLine(line: string): PlcOperation | undefined {
  const { did, operation, nullified, createdAt } = parseObject(line)
  const at = typeof createdAt === 'string' ? Date.parse(createdAt) : NaN
  if (typeof did !== 'string' || !isDid(did) || Number.isNaN(at)) throw refuse(line)
  if (nullified === true) return undefined
  if (typeof operation !== 'object' || operation === null) throw refuse(line)
  return { did, createdAt: at, document: documentOf(did, operation as Record<string, unknown>) }
}

/** The DID document that an operation states. `create` is the legacy form of operations. */
function documentOf(did: string, operation: Record<string, unknown>): Record<string, unknown> | undefined {
  switch (operation.type) {
    case 'plc_tombstone':
      return undefined
    case 'create': {
      const { handle, service, signingKey } = operation
      return document(
        did,
        typeof handle === 'string' ? [`at://${handle}`] : [],
        { atproto: signingKey },
        { atproto_pds: { type: PDS, endpoint: service } },
      )
    }
    default: {
      const { alsoKnownAs, verificationMethods, services } = operation
      return document(
        did,
        Array.isArray(alsoKnownAs) ? alsoKnownAs : [],
        objectOf(verificationMethods),
        objectOf(services),
      )
    }
  }
}

const PDS = 'AtprotoPersonalDataServer'
const DID_KEY = 'did:key:'

function document(
  did: string,
  alsoKnownAs: unknown[],
  keys: Record<string, unknown>,
  services: Record<string, unknown>,
): Record<string, unknown> {
  const verificationMethod = Object.entries(keys).flatMap(([id, key]) =>
    typeof key === 'string' && key.startsWith(DID_KEY)
      ? [{ id: `#${id}`, type: 'Multikey', controller: did, publicKeyMultibase: key.slice(DID_KEY.length) }]
      : [],
  )
  const service = Object.entries(services).map(([id, value]) => {
    const { type, endpoint } = objectOf(value)
    return { id: `#${id}`, type, serviceEndpoint: endpoint }
  })
  return { id: did, alsoKnownAs, verificationMethod, service }
}

export interface ExportOptions {
  http: Pick<HttpClient, 'get'>
  signal: AbortSignal
  /** Where to continue: the `createdAt` of the last operation read before. Only for a directory's `/export`. */
  after?: string
}

/** Limits for a file of the whole network: about 30 GB, and more each month. */
const FILE_LIMITS: Partial<HttpLimits> = { totalMs: 24 * 3_600_000, idleMs: 60_000, bytes: 2 ** 40 }

/**
 * Yields the lines of an export. @param source a path, a URL of a file, or the URL of a directory's `/export`
 * @throws TransientError, RefusedError, the errors of the file system, or the signal's reason
 */
export async function* plcExportLines(source: string, options: ExportOptions): AsyncGenerator<string> {
  if (!/^https?:\/\//.test(source)) yield* linesOf(createReadStream(source), source, options.signal)
  else if (new URL(source).pathname.endsWith('/export')) yield* pagesOf(source, options)
  else {
    const response = await options.http.get(source, { signal: options.signal, limits: FILE_LIMITS })
    if (response.status !== 200) {
      // Without this, the timer of the response's time limit (a day) would keep the process alive.
      await response.discard()
      throw new TransientError(`${source} answers ${response.status}`)
    }
    yield* linesOf(Readable.from(response.body), source, options.signal)
  }
}

/**
 * Yields the lines. Not with `readline`: when its input fails, it ends without an error, or waits for ever if its
 * reader is busy at that moment.
 */
async function* linesOf(bytes: Readable, name: string, signal: AbortSignal): AsyncGenerator<string> {
  const isZipped = new URL(name, 'file:///').pathname.endsWith('.gz')
  // The reader of `text` gets an error of either stream. `pipeline` requires the callback.
  const text: Readable = isZipped ? pipeline(bytes, createGunzip(), () => undefined) : bytes
  addAbortSignal(signal, text)
  text.setEncoding('utf8')
  let rest = ''
  try {
    for await (const chunk of text as AsyncIterable<string>) {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop()!
      for (const line of lines) if (line.trim() !== '') yield line.trimEnd()
    }
  } catch (error) {
    signal.throwIfAborted()
    throw error
  }
  if (rest.trim() !== '') yield rest.trimEnd()
}

const PAGE_LIMITS: Partial<HttpLimits> = { totalMs: 120_000, bytes: 64 * 1024 ** 2 }

/**
 * Yields the lines of a directory's `/export`, page by page. A page has the operations after a given time. Several
 * operations may have the same time, and a page may end between two of them. So each page is requested from just before
 * the last time of the previous page, and operations that the previous page had are left out.
 */
async function* pagesOf(source: string, { http, signal, after }: ExportOptions): AsyncGenerator<string> {
  let edge = new Set<string>()
  for (let from = after; ;) {
    const url = new URL(source)
    if (!url.searchParams.has('count')) url.searchParams.set('count', '1000')
    if (from !== undefined) url.searchParams.set('after', from)
    const response = await http.get(url, { signal, limits: PAGE_LIMITS })
    if (response.status !== 200) {
      await response.discard()
      throw new TransientError(`${url.host} answers ${response.status}: go on after ${from ?? 'the beginning'}`)
    }
    const lines = (await response.bytes()).toString().split('\n').filter(Boolean)
    if (lines.length === 0) return
    if (from !== undefined && timeOf(lines[0]!).ms <= Date.parse(from)) throw refuse(lines[0]!)
    yield* lines.filter((line) => !edge.has(line))
    const last = timeOf(lines.at(-1)!)
    const before = lines.findLastIndex((line) => timeOf(line).ms !== last.ms)
    edge = new Set(lines.slice(before + 1))
    from = before < 0 ? last.text : timeOf(lines[before]!).text
  }
}

function timeOf(line: string): { text: string; ms: number } {
  const { createdAt } = parseObject(line)
  const ms = typeof createdAt === 'string' ? Date.parse(createdAt) : NaN
  if (Number.isNaN(ms)) throw refuse(line)
  return { text: createdAt as string, ms }
}

function parseObject(line: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(line)
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch {
    // The error below says it.
  }
  throw refuse(line)
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

function refuse(line: string): RefusedError<(typeof PLC_LINE_REFUSALS)[number]> {
  return new RefusedError('plc-bad-line', line.slice(0, 200))
}
