/**
 * Samples of the frames that the ingester refused, for the operator who wants to see which they were. The ledger counts
 * what was refused, and is exact. Samples are kept beside it as far as there is room for them: nothing waits for them,
 * and what is lost of them is lost to nobody but a reader.
 *
 * Of each reason the newest `SAMPLES_MAX` samples are kept, and `SAMPLE_BYTES_MAX` of their frames. So a flood of one
 * reason pushes out no sample of another. There are as many reasons as code has names for (60 for frames), which bounds
 * the whole: 1,200 samples and 8 MB, if there is a flood of every reason there is.
 *
 * `<stream>_refused` is a stream of everything but the frames, which are in the hash `<stream>_refused:frames` by the
 * sample's id. They are apart because Redis frees a node of a stream only when all entries in it are gone, so a stream
 * with frames in it could hold many times what is left of it. `<stream>_refused:kept` says which samples there are of
 * each reason.
 */
import { RESP_TYPES } from 'redis'
import { classified, type Redis } from './connection.ts'
import { runScript, scripts } from './scripts.ts'

/** A frame that was refused, or of which a part was. */
export interface RefusedFrame {
  /** From a closed list: a metric label. */
  reason: string
  detail: string
  /** The upstream that sent it. */
  host: string
  /** Undefined: the frame has none, or could not be read. */
  seq: number | undefined
  /** Whose frame it is; '' when it could not be read, or is about nobody. */
  did: string
  /** `commit`, `sync`, `labels`, …, or `unreadable`. */
  type: string
  /** The frame, or its beginning; undefined when it is not at hand any more. */
  bytes: Uint8Array | undefined
  /** The size of the whole frame. Default: that of `bytes`. */
  frameBytes?: number
}

/** What is kept of it, without the frame. */
export interface RefusedSample {
  id: string
  stream: string
  /** When it was refused (ISO 8601). */
  time: string
  reason: string
  detail: string
  host: string
  seq?: number
  did: string
  type: string
  /** The size of the whole frame, which may be more than is kept; 0: the frame was not at hand. */
  frameBytes: number
}

/** Samples that are kept of one reason. */
export const SAMPLES_MAX = 20
/** The bytes of their frames. The newest sample is kept in any case. */
export const SAMPLE_BYTES_MAX = 128 * 1024
/** What is kept of one frame. The protocol allows 5 MB; nearly all frames have less than a hundredth of this. */
export const FRAME_BYTES_MAX = 64 * 1024
const DETAIL_CHARS = 500
/** What is no DID may have megabytes. */
const DID_CHARS = 300

export const refusedStream = (stream: string): string => `${stream}_refused`

/** A hash: id of a sample → the beginning of its frame. */
export const refusedFramesKey = (stream: string): string => `${refusedStream(stream)}:frames`

/** A hash: reason → ids of its samples, each with the size of what is kept of its frame. */
export const keptKey = (stream: string): string => `${refusedStream(stream)}:kept`

/** As much of the frame as is kept, in memory of its own. */
export function beginningOf(frame: RefusedFrame): RefusedFrame {
  const { detail, did, bytes, frameBytes = bytes?.length ?? 0 } = frame
  return {
    ...frame,
    detail: detail.slice(0, DETAIL_CHARS),
    did: did.slice(0, DID_CHARS),
    bytes: bytes && Buffer.from(bytes.subarray(0, FRAME_BYTES_MAX)),
    frameBytes,
  }
}

/**
 * Stores a sample, and removes the oldest of its reason beyond the limits, in one step. Refused in a full Redis.
 * @returns its id
 * @throws TransientError, FatalError; then nothing was stored
 */
export async function storeSample(redis: Redis, stream: string, frame: RefusedFrame): Promise<string> {
  const { reason, detail, host, seq = '', did, type, bytes = [], frameBytes } = beginningOf(frame)
  const fields = { reason, detail, host, seq: String(seq), did, type, bytes: String(frameBytes) }
  const keys = [refusedStream(stream), refusedFramesKey(stream), keptKey(stream)]
  const args = [
    reason,
    Buffer.from(bytes),
    String(SAMPLES_MAX),
    String(SAMPLE_BYTES_MAX),
    ...Object.entries(fields).flat(),
  ]
  return (await classified(runScript(redis, scripts.refused, keys, args))) as string
}

/** How many samples there are of each reason. @throws TransientError */
export async function countSamples(redis: Redis, stream: string): Promise<Map<string, number>> {
  const kept = await classified(redis.hGetAll(keptKey(stream)))
  return new Map(Object.entries(kept).map(([reason, index]) => [reason, index.split(' ').length / 2]))
}

/** Samples in one reply; 1 kB each at most. */
const PAGE_SAMPLES = 200

/**
 * The newest samples first, at most `count` of a reason (default: of any).
 * @throws TransientError; WrongTypeError when another program uses the key
 */
export async function listSamples(
  redis: Redis,
  stream: string,
  { count, reason }: { count: number; reason?: string | undefined },
): Promise<RefusedSample[]> {
  const found: RefusedSample[] = []
  for (let end = '+'; found.length < count;) {
    const page = await classified(redis.xRevRange(refusedStream(stream), end, '-', { COUNT: PAGE_SAMPLES }))
    const last = page?.at(-1)
    if (!page || last === undefined) break
    const samples = page.map(({ id, message }) => sampleOf(stream, id, message))
    found.push(...samples.filter((sample) => reason === undefined || sample.reason === reason))
    end = `(${last.id}`
  }
  return found.slice(0, count)
}

/** Makes strings of the reply arrive as Buffers. */
const BINARY = { [RESP_TYPES.BLOB_STRING]: Buffer }

/**
 * One sample with what is kept of its frame; undefined when there is none of this id.
 * @throws TransientError
 */
export async function readSample(
  redis: Redis,
  stream: string,
  id: string,
): Promise<{ sample: RefusedSample; frame: Buffer } | undefined> {
  const [entry] = (await classified(redis.xRange(refusedStream(stream), id, id))) ?? []
  if (!entry) return undefined
  const frame = await classified(redis.withTypeMapping(BINARY).hGet(refusedFramesKey(stream), entry.id))
  return { sample: sampleOf(stream, entry.id, entry.message), frame: frame ?? Buffer.alloc(0) }
}

/** Accepts any fields: another program may have put something there. */
function sampleOf(stream: string, id: string, m: Record<string, string>): RefusedSample {
  return {
    id,
    stream,
    time: new Date(Number(id.split('-')[0])).toISOString(),
    reason: m.reason ?? 'unknown',
    detail: m.detail ?? '',
    host: m.host ?? '',
    ...(/^\d+$/.test(m.seq ?? '') && { seq: Number(m.seq) }),
    did: m.did ?? '',
    type: m.type ?? '',
    frameBytes: Number(m.bytes ?? 0) || 0,
  }
}
