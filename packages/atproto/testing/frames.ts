/** Event stream frames, as a relay or a labeler encodes them. */
import { encodeCbor } from '../cbor-encode.ts'

/** A message frame of type `t` (`#commit`, …). */
export function encodeFrame(t: string, body: object): Buffer {
  return Buffer.concat([encodeCbor({ op: 1, t }), encodeCbor(body)])
}

/** An error frame. */
export function encodeErrorFrame(error: string, message?: string): Buffer {
  return Buffer.concat([encodeCbor({ op: -1 }), encodeCbor({ error, message })])
}
