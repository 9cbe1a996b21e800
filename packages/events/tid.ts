/**
 * Timestamp identifiers (TID): 13 characters of base32-sortable, 53 bits of microseconds and 10 bits of clock id.
 * Revisions of a repository are TIDs, and compare as strings. https://atproto.com/specs/tid
 */

const ALPHABET = '234567abcdefghijklmnopqrstuvwxyz'

/** The position of each character code in the alphabet; 255 for the others. */
const DIGITS = new Uint8Array(128).fill(255)
for (let i = 0; i < ALPHABET.length; i++) DIGITS[ALPHABET.charCodeAt(i)] = i

const LENGTH = 13

/** Whether `text` is a TID: 13 characters, the first of which leaves the top bit clear. */
export function isTid(text: string): boolean {
  if (text.length !== LENGTH) return false
  if (digitAt(text, 0) > 15) return false
  for (let i = 1; i < LENGTH; i++) if (digitAt(text, i) > 31) return false
  return true
}

/** Microseconds since 1970 of a TID; NaN when `text` is none. */
export function tidMicros(text: string): number {
  if (!isTid(text)) return NaN
  // 11 characters of 5 bits are the time, and the last two the clock id: 53 significant bits fit a double.
  let micros = 0
  for (let i = 0; i < 11; i++) micros = micros * 32 + digitAt(text, i)
  return micros
}

/**
 * The TID of a time and a clock id (0 to 1023).
 * @throws RangeError when either is out of range
 */
export function tidFromMicros(micros: number, clockId = 0): string {
  if (!Number.isSafeInteger(micros) || micros < 0) throw new RangeError(`not a TID time: ${micros}`)
  if (!Number.isInteger(clockId) || clockId < 0 || clockId > 1023) throw new RangeError(`not a clock id: ${clockId}`)
  let text = ALPHABET.charAt(clockId >> 5) + ALPHABET.charAt(clockId & 31)
  for (let i = 0, rest = micros; i < 11; i++, rest = Math.floor(rest / 32)) text = ALPHABET.charAt(rest % 32) + text
  return text
}

/**
 * The 64 bits of a TID (the highest is 0). The numbers have the same order as their TIDs. It is computed in two halves:
 * bigint arithmetic for each digit would be slower.
 * @param tid must be a valid TID
 */
export function tidNumber(tid: string): bigint {
  let high = 0
  for (let i = 0; i < 6; i++) high = high * 32 + digitAt(tid, i)
  let low = 0
  for (let i = 6; i < LENGTH; i++) low = low * 32 + digitAt(tid, i)
  return (BigInt(high) << LOW_BITS) + BigInt(low)
}

/** The TID of the 64 bits that `tidNumber` returns. */
export function tidOfNumber(number: bigint): string {
  let high = Number(number >> LOW_BITS)
  let low = Number(BigInt.asUintN(35, number))
  let text = ''
  for (let i = 0; i < 7; i++, low = Math.floor(low / 32)) text = ALPHABET[low % 32]! + text
  for (let i = 0; i < 6; i++, high = Math.floor(high / 32)) text = ALPHABET[high % 32]! + text
  return text
}

/** The bits of the lower half, which has seven digits. */
const LOW_BITS = 35n

function digitAt(text: string, index: number): number {
  const code = text.charCodeAt(index)
  return code < 128 ? DIGITS[code]! : 255
}
