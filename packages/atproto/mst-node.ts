/**
 * Decodes one node of a Merkle search tree to its keys, values and subtrees, and encodes it.
 * https://atproto.com/specs/repository#mst-structure
 *
 * A node has exactly one encoding, so that a tree has exactly one root: DAG-CBOR of `{e: [{k, p, t, v}…], l}`, each key
 * without the longest prefix that it shares with the key before it. `parseNode` refuses everything else. Checks that
 * need more than one node (layers, order across nodes, emptiness) are in `mst.ts` and `mst-walk.ts`.
 *
 * Keys are bytes, held as latin-1 strings. Such strings compare in byte order, and the key of a valid path equals the
 * path.
 *
 * The parser reads the one layout that a node can have: 0.6 µs for a node of 4 entries, against 1.2 µs with
 * `decodeItem` and 7.8 µs with the official decoder.
 */
import { hash } from 'node:crypto'
import { RefusedError } from '@sluice/runtime/errors.ts'
import { CID_BYTES, cidOf, isCidAt, type Cid } from './cid.ts'

export const MST_REFUSALS = [
  'mst-bad-node',
  'mst-not-canonical',
  'mst-wrong-order',
  'mst-wrong-layer',
  'mst-empty-node',
  'mst-incomplete',
  'mst-op-mismatch',
  'mst-too-large',
] as const
export type MstRefusal = (typeof MST_REFUSALS)[number]

/** A parsed node. Its links are offsets into the block; the caller reads a CID where it needs one. */
export interface NodeView {
  keys: string[]
  /** The offset of the CID of each key's value. */
  values: number[]
  /**
   * The offset of the CID of the subtree before each key, and last of the subtree after all keys. -1 for no subtree.
   */
  trees: number[]
  /** About how much memory the node takes, with its block. */
  bytes: number
}

/** The memory of a node without its entries: an object and its lists. */
const NODE_BYTES = 256
/**
 * The memory of an entry without its key: the header of a string, its places in the lists, and its bytes in the block.
 */
const ENTRY_BYTES = 128
/** The longest key, in bytes: a path of 317 + 1 + 512 characters fits. */
const KEY_BYTES = 1024

const key = Buffer.alloc(KEY_BYTES)

/** The position after the head that `readHead` read last. */
let headEnd = 0

/**
 * Decodes the node in `block`.
 *
 * The specification advises a limit on the entries of a node. Such a limit would bound nothing here: many nodes with a
 * few entries expand as much as one node with many, and an attacker finds the keys of higher layers that this takes
 * within a second. So the memory of all nodes that are held at the same time is limited instead.
 * @param bytesMax the memory that the node may take. Example: 35,000 keys that differ in their last bytes only are a
 * block of 2 MB, and 37 MB when decoded
 * @throws RefusedError<MstRefusal>
 */
export function parseNode(block: Buffer, bytesMax: number): NodeView {
  let at = expect(block, 0, 0xa2, 0x61, 0x65) // map of 2, "e"
  const count = readHead(block, at, 4)
  if (count > block.length) throw refuseMst('mst-bad-node', 'more entries than bytes')
  at = headEnd
  const view: NodeView = { keys: [], values: [], trees: [-1], bytes: NODE_BYTES }
  if (view.bytes > bytesMax) throw tooLarge()
  let keyLength = 0
  for (let i = 0; i < count; i++) {
    at = expect(block, at, 0xa4, 0x61, 0x6b) // map of 4, "k"
    const length = readHead(block, at, 2)
    const suffix = headEnd
    at = expect(block, suffix + length, 0x61, 0x70) // "p"
    const prefix = readHead(block, at, 0)
    checkPrefix(i, prefix, keyLength, block[suffix]!, length)
    keyLength = prefix + length
    view.bytes += ENTRY_BYTES + keyLength
    if (view.bytes > bytesMax) throw tooLarge()
    block.copy(key, prefix, suffix, suffix + length)
    view.keys.push(key.toString('latin1', 0, keyLength))
    at = expect(block, headEnd, 0x61, 0x74) // "t"
    const tree = block[at] === 0xf6 ? -1 : linkAt(block, at)
    view.trees.push(tree)
    at = expect(block, tree === -1 ? at + 1 : tree + CID_BYTES, 0x61, 0x76) // "v"
    const value = linkAt(block, at)
    view.values.push(value)
    at = value + CID_BYTES
  }
  at = expect(block, at, 0x61, 0x6c) // "l"
  const left = block[at] === 0xf6 ? -1 : linkAt(block, at)
  view.trees[0] = left
  if ((left === -1 ? at + 1 : left + CID_BYTES) !== block.length)
    throw refuseMst('mst-bad-node', 'bytes after the node')
  return view
}

function tooLarge(): RefusedError<MstRefusal> {
  return refuseMst('mst-too-large', 'its keys and nodes take more memory than those of any tree that people have')
}

/**
 * Checks that a key sorts after the previous one. The shared prefix must be as long as possible, so the first byte
 * after it decides: it must be larger than that of the previous key, or the previous key must end there.
 */
function checkPrefix(index: number, prefix: number, previousLength: number, first: number, length: number): void {
  if (prefix > previousLength || length === 0 || prefix + length > KEY_BYTES) {
    throw refuseMst(
      'mst-bad-node',
      `entry ${index}: prefix ${prefix}, suffix ${length}, after a key of ${previousLength}`,
    )
  }
  if (prefix === previousLength) return
  if (first === key[prefix]) throw refuseMst('mst-not-canonical', `entry ${index}: its prefix is not the longest`)
  if (first < key[prefix]!) throw refuseMst('mst-wrong-order', `entry ${index} sorts before entry ${index - 1}`)
}

function expect(block: Buffer, at: number, a: number, b: number, c?: number): number {
  if (block[at] !== a || block[at + 1] !== b || (c !== undefined && block[at + 2] !== c)) {
    throw refuseMst('mst-bad-node', `unexpected byte at ${at}`)
  }
  return c === undefined ? at + 2 : at + 3
}

function readHead(block: Buffer, at: number, major: number): number {
  const byte = block[at] ?? 0xff
  const info = byte & 31
  headEnd = at + 1
  if (byte >> 5 === major) {
    if (info < 24) return info
    const a = block[at + 1] ?? 0
    headEnd = at + 2
    if (info === 24 && a > 23) return a
    headEnd = at + 3
    const ab = (a << 8) | (block[at + 2] ?? 0)
    if (info === 25 && ab > 0xff) return ab
  }
  throw refuseMst('mst-bad-node', `unexpected head at ${at}`)
}

/** The offset of the CID in the link that starts at `at`. */
function linkAt(block: Buffer, at: number): number {
  const cid = at + 5
  if (
    block[at] === 0xd8 &&
    block[at + 1] === 0x2a &&
    block[at + 2] === 0x58 &&
    block[at + 3] === 0x25 &&
    block[at + 4] === 0 &&
    isCidAt(block, cid)
  ) {
    return cid
  }
  throw refuseMst('mst-bad-node', `no link at ${at}`)
}

/**
 * The layer of a key: the number of leading pairs of zero bits in its SHA-256.
 *
 * `node:crypto` in one call takes 260 ns; a SHA-256 of our own in JavaScript for one block of input took 315 ns.
 */
export function heightOf(key: string): number {
  // `hash` encodes a string as UTF-8. For ASCII that gives the bytes of the key, and takes 0.3 µs less than a Buffer.
  const digest = hash('sha256', isAscii(key) ? key : Buffer.from(key, 'latin1'), 'binary')
  let height = 0
  for (let i = 0; i < digest.length; i++) {
    const byte = digest.charCodeAt(i)
    if (byte !== 0) return height + ((Math.clz32(byte) - 24) >> 1)
    height += 4
  }
  return height
}

/** The key of a path: its UTF-8 bytes as a latin-1 string. */
export function keyOf(path: string): string {
  return isAscii(path) ? path : Buffer.from(path).toString('latin1')
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return false
  return true
}

/** The canonical encoding of a node; `trees` has one entry more than `keys`, null for none. */
export function encodeNode(keys: string[], values: Cid[], trees: (Cid | null)[]): Buffer {
  let size = 64
  for (const key of keys) size += key.length + 96
  const out = Buffer.allocUnsafe(size)
  let at = put(out, 0, 0xa2, 0x61, 0x65)
  at = putHead(out, at, 4, keys.length)
  let previous = ''
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i]!
    const prefix = sharedPrefix(previous, key)
    at = put(out, at, 0xa4, 0x61, 0x6b)
    at = putHead(out, at, 2, key.length - prefix)
    at += out.write(prefix === 0 ? key : key.slice(prefix), at, 'latin1')
    at = put(out, at, 0x61, 0x70)
    at = putHead(out, at, 0, prefix)
    at = putLink(out, put(out, at, 0x61, 0x74), trees[i + 1]!)
    at = putLink(out, put(out, at, 0x61, 0x76), values[i]!)
    previous = key
  }
  at = putLink(out, put(out, at, 0x61, 0x6c), trees[0]!)
  return out.subarray(0, at)
}

/** The root of a tree without keys. */
export const EMPTY_TREE = cidOf(encodeNode([], [], [null]))

/** How many characters two keys share from the start. */
export function sharedPrefix(a: string, b: string): number {
  const length = Math.min(a.length, b.length)
  let i = 0
  while (i < length && a.charCodeAt(i) === b.charCodeAt(i)) i++
  return i
}

function put(out: Buffer, at: number, a: number, b: number, c?: number): number {
  out[at] = a
  out[at + 1] = b
  if (c === undefined) return at + 2
  out[at + 2] = c
  return at + 3
}

function putHead(out: Buffer, at: number, major: number, argument: number): number {
  const type = major << 5
  if (argument < 24) {
    out[at] = type | argument
    return at + 1
  }
  if (argument < 0x100) return put(out, at, type | 24, argument)
  return put(out, at, type | 25, argument >> 8, argument & 255)
}

function putLink(out: Buffer, at: number, cid: Cid | null): number {
  if (cid === null) {
    out[at] = 0xf6
    return at + 1
  }
  out[at] = 0xd8
  out[at + 1] = 0x2a
  out[at + 2] = 0x58
  out[at + 3] = 0x25
  out[at + 4] = 0
  return at + 5 + out.write(cid, at + 5, 'latin1')
}

export function refuseMst(reason: MstRefusal, detail: string): RefusedError<MstRefusal> {
  return new RefusedError(reason, detail)
}
