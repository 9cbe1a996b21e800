/**
 * Decompresses bodies: gzip and deflate.
 *
 * Hazards: Brotli is neither requested nor accepted, since a body can make its decoder hold a window of 16 MB (gzip's
 * is 32 kB). zstd is not either: its decoder in Node (24.18) ends without an error when its input is cut short.
 */
import { pipeline, type Readable, type Transform } from 'node:stream'
import { createGunzip, createInflate } from 'node:zlib'

/**
 * The decompressed chunks of `body`. Undefined when its encoding is none of those that we request; then the body is
 * ended.
 * @param encoding in lower case, as `content-encoding` has it, or `identity`
 */
export function decoded(body: Readable, encoding: string): AsyncIterable<Uint8Array> | undefined {
  if (encoding === 'identity') return body
  const createDecoder = decoderOf(encoding)
  if (createDecoder === undefined) {
    letGo(body)
    return undefined
  }
  return through(body, createDecoder)
}

/** Lazy: reads nothing of the body before the caller iterates. */
async function* through(body: Readable, createDecoder: () => Transform): AsyncGenerator<Uint8Array> {
  try {
    // The iterator of the decoder reports an error of either stream. `pipeline` requires the callback.
    yield* pipeline(joined(body), createDecoder(), () => undefined) as AsyncIterable<Uint8Array>
  } finally {
    letGo(body)
  }
}

/**
 * Joins all waiting pieces to one, as the iterator of a Readable does. The decoder would otherwise decode the pieces
 * one by one, each on another thread.
 */
async function* joined(body: Readable): AsyncGenerator<Uint8Array> {
  yield* body as AsyncIterable<Uint8Array>
}

/**
 * Ends a body that nobody reads. Without a deadline, the host could otherwise keep the connection open as long as it
 * likes.
 */
function letGo(body: Readable): void {
  body.on('error', () => undefined).destroy()
}

function decoderOf(encoding: string): (() => Transform) | undefined {
  switch (encoding) {
    case 'gzip':
    case 'x-gzip':
      return createGunzip
    case 'deflate':
      return createInflate
    default:
      return undefined
  }
}
