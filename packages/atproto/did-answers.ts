/** What the answers of a PLC directory, and of the hosts of did:webs, mean for a DID. */
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import type { HttpResponse } from './http.ts'
import { parseDidDocument, type Identity, type Resolution } from './identity.ts'
import { retryAfterOf } from './rate-limit.ts'

/**
 * What a directory says of a DID that has no document. The status alone does not count: any web server has a 404, and
 * may answer 410 when it was given up. For ended DIDs, the reference server answers 404 too; its API description and
 * go-didplc's replica say 410. https://web.plc.directory/api/redoc#operation/ResolveDid
 */
const PLC_WORDS: [RegExp, Resolution][] = [
  [/^DID not registered\b/, { status: 'missing' }],
  [/^DID not available\b/, { status: 'tombstoned' }],
  // The mirror of bsky.watch (github.com/bsky-watch/plc-mirror), in plain text.
  [/^unknown DID\b/, { status: 'missing' }],
  [/^DID deleted\b/, { status: 'tombstoned' }],
]

/** The identity in the body of a 200. @throws RefusedError when it is no document of that DID */
export function documentOf(did: string, bytes: Buffer): Resolution {
  return { status: 'found', identity: parseDidDocument(did, jsonOf(bytes)) satisfies Identity }
}

/**
 * What a directory means by the body of a 404 or 410.
 * @throws RefusedError when the body is none of `PLC_WORDS`
 */
export function wordOf(bytes: Buffer, status: number): Resolution {
  const text = bytes.toString()
  const { message } = (jsonOf(bytes) ?? {}) as { message?: unknown }
  const word = PLC_WORDS.find(([pattern]) => pattern.test(typeof message === 'string' ? message : text))
  if (word === undefined) throw new RefusedError('identity-bad-document', `${status}, and not a word of a directory`)
  return word[1]
}

/** The parsed value; undefined when the bytes are no JSON. */
function jsonOf(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString())
  } catch {
    return undefined
  }
}

/** The error of any other status: it tells nothing of the DID. */
export function outage(did: string, response: HttpResponse): TransientError {
  const retryAfterMs = retryAfterOf(response.headers, Date.now())
  return new TransientError(`${did}: ${response.url.host} answers ${response.status}`, { retryAfterMs })
}
