/**
 * A frame for people: its header and body as lexicon JSON, and the blocks that it carries, as far as they can be read.
 * It never throws: of a frame that was refused anything may be wrong, or its end may be missing.
 */
import { readCar } from '@sluice/atproto/car.ts'
import { decodeItem, decodeJsonItem, type Json } from '@sluice/atproto/cbor.ts'
import { formatCid } from '@sluice/atproto/cid.ts'
import { describeError, RefusedError } from '@sluice/runtime/errors.ts'

export interface FrameReading {
  header?: Json
  /** Without its `blocks`. */
  body?: Json
  /** What its `blocks` hold, in their order; or why they could not be read. */
  blocks?: BlockReading[] | { unreadable: string }
  /** Why header or body could not be read. */
  unreadable?: string
}

export interface BlockReading {
  cid: string
  value?: Json
  unreadable?: string
}

/** Reads what can be read of the frame. */
export function readFrame(bytes: Buffer): FrameReading {
  const header = attempt(() => decodeJsonItem(bytes, 0))
  if ('unreadable' in header) return header
  const { value, end } = header
  const body = attempt(() => decodeJsonItem(bytes, end))
  if ('unreadable' in body) return { header: value, ...body }
  const rest = body.end < bytes.length ? { unreadable: `${bytes.length - body.end} bytes follow the body` } : {}
  const blocks = blocksOf(bytes, end)
  const read = { header: value, body: blocks ? withoutBlocks(body.value) : body.value, ...rest }
  return blocks ? { ...read, blocks } : read
}

function blocksOf(bytes: Buffer, at: number): FrameReading['blocks'] {
  const item = attempt(() => decodeItem(bytes, at).value)
  if (typeof item !== 'object' || item === null || !('blocks' in item) || !Buffer.isBuffer(item.blocks))
    return undefined
  const { blocks } = item
  const car = attempt(() => readCar(blocks))
  if ('unreadable' in car) return car
  return [...car.blocks].map(([cid, block]) => {
    const value = attempt(() => ({ value: decodeJsonItem(block, 0).value }))
    return { cid: formatCid(cid), ...value }
  })
}

function withoutBlocks(body: Json): Json {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return body
  return Object.fromEntries(Object.entries(body).filter(([name]) => name !== 'blocks'))
}

function attempt<T>(read: () => T): T | { unreadable: string } {
  try {
    return read()
  } catch (error) {
    if (error instanceof RefusedError) return { unreadable: error.message }
    return { unreadable: describeError(error) }
  }
}

const HEX_COLUMNS = 16
const HEX_BYTES = 512

/** The beginning of a frame as `xxd` shows it. */
export function hexOf(bytes: Buffer): string[] {
  const shown = bytes.subarray(0, HEX_BYTES)
  return Array.from({ length: Math.ceil(shown.length / HEX_COLUMNS) }, (_, line) => {
    const part = shown.subarray(line * HEX_COLUMNS, (line + 1) * HEX_COLUMNS)
    const hex = part.toString('hex').replaceAll(/(....)(?=.)/g, '$1 ')
    const text = part.toString('latin1').replaceAll(/[^ -~]/g, '.')
    return `${(line * HEX_COLUMNS).toString(16).padStart(8, '0')}: ${hex.padEnd(39)}  ${text}`
  })
}
