/**
 * Base58 (the Bitcoin alphabet), the encoding of public keys. For short inputs only: the cost grows with the square of
 * the length.
 */

const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
const MAX_CHARS = 128

/** The bytes that the text encodes, or undefined when the text is not base58. */
export function decodeBase58(text: string): Uint8Array | undefined {
  if (text.length > MAX_CHARS) return undefined
  const bytes: number[] = []
  for (const char of text) {
    let carry = ALPHABET.indexOf(char)
    if (carry === -1) return undefined
    for (let i = 0; i < bytes.length; i++) {
      carry += bytes[i]! * 58
      bytes[i] = carry & 255
      carry >>= 8
    }
    for (; carry > 0; carry >>= 8) bytes.push(carry & 255)
  }
  for (let i = 0; i < text.length && text[i] === '1'; i++) bytes.push(0)
  return Uint8Array.from(bytes.reverse())
}

/** The base58 text of the bytes. */
export function encodeBase58(bytes: Uint8Array): string {
  const digits: number[] = []
  for (const byte of bytes) {
    let carry = byte
    for (let i = 0; i < digits.length; i++) {
      carry += digits[i]! * 256
      digits[i] = carry % 58
      carry = Math.floor(carry / 58)
    }
    for (; carry > 0; carry = Math.floor(carry / 58)) digits.push(carry % 58)
  }
  for (let i = 0; i < bytes.length && bytes[i] === 0; i++) digits.push(0)
  return digits
    .reverse()
    .map((digit) => ALPHABET[digit]!)
    .join('')
}
