/** A response body that is watched while it is read: its size, its speed, its deadline. */
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'

export interface Pace {
  bytes: number
  bytesPerSecond: number
  idleMs: number
  signal: AbortSignal
  url: URL
  /** Called once, when the body has ended in any way. */
  release: () => void
  toError: (error: unknown) => unknown
}

/**
 * Passes the chunks of `source` on, and checks size, speed and deadline. Only the time that we wait for the host counts
 * for its speed.
 * @throws RefusedError 'http-too-large', TransientError, or the reason of `signal`
 */
export async function* paced(source: AsyncIterable<Uint8Array>, pace: Pace): AsyncGenerator<Uint8Array> {
  const { bytes, bytesPerSecond, idleMs, signal, url, release, toError } = pace
  const iterator = source[Symbol.asyncIterator]()
  let total = 0
  let windowMs = 0
  let windowBytes = 0
  try {
    for (;;) {
      const asked = performance.now()
      const { done, value } = await iterator.next()
      if (signal.aborted) throw signal.reason
      if (done) return
      total += value.length
      windowBytes += value.length
      windowMs += performance.now() - asked
      if (total > bytes) throw new RefusedError('http-too-large', `${url.href}: more than ${bytes} bytes`)
      if (windowMs > idleMs) {
        const speed = (windowBytes * 1000) / windowMs
        if (speed < bytesPerSecond)
          throw new TransientError(`${url.href}: ${Math.round(speed)} bytes a second are too few`)
        windowMs = 0
        windowBytes = 0
      }
      yield value
    }
  } catch (error) {
    throw signal.aborted ? signal.reason : toError(error)
  } finally {
    release()
    await iterator.return?.()
  }
}

export async function collect(body: AsyncIterable<Uint8Array>, maxBytes = Infinity): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of body) {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes >= maxBytes) break
  }
  return Buffer.concat(chunks, Math.min(bytes, maxBytes))
}
