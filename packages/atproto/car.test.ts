import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readCarWithRoot } from '@atproto/repo'
import { describe, expect, test } from 'vitest'
import { TransientError } from '@sluice/runtime/errors.ts'
import { CarStore } from './car-store.ts'
import { readCar, type CarRefusal } from './car.ts'
import { encodeCbor } from './cbor-encode.ts'
import { cidOf, formatCid, parseCid } from './cid.ts'
import { varint, writeCar } from './testing/car-write.ts'
import type { Spool } from './slabs.ts'
import { random } from './testing/random.ts'

const LIMITS = { bytes: 1_000_000, blocks: 1_000, blockBytes: 10_000 }
const blocks = Array.from({ length: 8 }, (_, i) => Buffer.from(encodeCbor({ i, text: 'x'.repeat(i * 20) })))
const entries = blocks.map((block) => [cidOf(block), block] as const)
const root = entries[0]![0]
const car = writeCar(root, entries)

/** The blocks of a CAR by way of the store, fed in chunks of `size`. */
function stored(
  bytes: Uint8Array,
  size: number,
  limits = LIMITS,
  spool?: Spool,
): { root: string; blocks: Map<string, Buffer> } {
  using store = new CarStore(limits, spool)
  for (let at = 0; at < bytes.length; at += size) store.push(Buffer.from(bytes.subarray(at, at + size)))
  const cid = store.end()
  const all = new Map(
    entries
      .map(([cid]) => [cid as string, store.findCid(cid)] as const)
      .filter(([, n]) => n !== -1)
      .map(([cid, n]) => [cid, store.block(n)]),
  )
  return { root: cid, blocks: all }
}

const READERS = [
  { name: 'readCar', read: (bytes: Uint8Array, limits = LIMITS) => readCar(bytes, limits) },
  {
    name: 'CarStore, in one chunk',
    read: (bytes: Uint8Array, limits = LIMITS) => stored(bytes, bytes.length || 1, limits),
  },
  { name: 'CarStore, byte by byte', read: (bytes: Uint8Array, limits = LIMITS) => stored(bytes, 1, limits) },
  { name: 'CarStore, in chunks of 100', read: (bytes: Uint8Array, limits = LIMITS) => stored(bytes, 100, limits) },
]

describe.each(READERS)('$name', ({ read }) => {
  test('gives every block under its CID', async () => {
    const result = read(car)
    expect(result.root).toBe(root)
    expect(result.blocks.size).toBe(blocks.length)
    for (const [cid, block] of entries) expect(Buffer.from(result.blocks.get(cid)!)).toEqual(block)
    const official = await readCarWithRoot(car)
    expect(String(official.root)).toBe(formatCid(root))
    expect(official.blocks.size).toBe(blocks.length)
  })

  test('takes blocks in any order, twice, and unrelated ones', () => {
    const shuffled = [...entries].reverse().flatMap((entry) => [entry, entry])
    expect(read(writeCar(root, shuffled)).blocks.size).toBe(blocks.length)
    expect(read(writeCar(root, [])).root).toBe(root)
  })

  test('a CAR that is cut anywhere but on a block boundary is truncated', () => {
    const boundaries = new Set<number>()
    let at =
      car.length -
      entries.reduce(
        (sum, [cid, block]) => sum + varint(cid.length + block.length).length + cid.length + block.length,
        0,
      )
    for (const [cid, block] of entries) {
      boundaries.add(at)
      at += varint(cid.length + block.length).length + cid.length + block.length
    }
    for (let end = 0; end < car.length; end++) {
      if (boundaries.has(end)) expect(read(car.subarray(0, end)).root).toBe(root)
      else
        expect(() => read(car.subarray(0, end))).toThrow(
          expect.objectContaining({ reason: 'car-truncated' satisfies CarRefusal }),
        )
    }
  })

  test('a flipped bit in a block is a wrong hash', () => {
    const wrong = Buffer.from(car)
    wrong[car.length - 1]! ^= 1
    expect(() => read(wrong)).toThrow(expect.objectContaining({ reason: 'car-wrong-hash' }))
  })

  test.each<[CarRefusal, string, () => Buffer]>([
    ['car-bad-header', 'version 2', () => withHeader({ roots: [{ $link: formatCid(root) }], version: 2 })],
    ['car-bad-header', 'no roots', () => withHeader({ roots: [], version: 1 })],
    ['car-bad-header', 'a root that is text', () => withHeader({ roots: [formatCid(root)], version: 1 })],
    ['car-bad-header', 'a list', () => withHeader([1])],
    ['car-bad-block', 'a section without a CID', () => Buffer.concat([car, Uint8Array.of(3, 1, 2, 3)])],
    ['car-bad-block', 'an empty section', () => Buffer.concat([car, Uint8Array.of(0)])],
    [
      'car-bad-block',
      'a CID of another hash',
      () => Buffer.concat([car, Uint8Array.of(37, 1, 0x71, 0x13, 0x20), Buffer.alloc(33)]),
    ],
    ['car-bad-block', 'a length without end', () => Buffer.concat([car, Buffer.alloc(6, 0xff)])],
  ])('%s: %s', (reason, _, make) => {
    expect(() => read(make())).toThrow(expect.objectContaining({ reason }))
  })

  test('limits are limits', () => {
    expect(() => read(car, { ...LIMITS, blocks: blocks.length - 1 })).toThrow(
      expect.objectContaining({ reason: 'car-too-many-blocks' }),
    )
    expect(() => read(car, { ...LIMITS, blockBytes: 100 })).toThrow(
      expect.objectContaining({ reason: 'car-block-too-large' }),
    )
    expect(read(car, { ...LIMITS, blocks: blocks.length }).blocks.size).toBe(blocks.length)
  })
})

test('the store limits the whole CAR, before it holds it', () => {
  expect(() => stored(car, 100, { ...LIMITS, bytes: car.length - 1 })).toThrow(
    expect.objectContaining({ reason: 'car-too-large' }),
  )
})

test.each([
  ['in memory', undefined],
  ['in memory and in a file', { memoryBytes: 3_000_000 }],
  ['in a file', { memoryBytes: 0 }],
])('the store holds many blocks across slabs %s, and finds each', (_, spool) => {
  const draw = random('many blocks')
  const many = Array.from({ length: 12_000 }, () => draw.bytes(draw.below(2_000))).map(
    (block) => [cidOf(block), block] as const,
  )
  const bytes = writeCar(many[0]![0], many)
  expect(bytes.length).toBeGreaterThan(10_000_000)
  using store = new CarStore({ bytes: 1e8, blocks: 1e6, blockBytes: 1e6 }, spool)
  for (let at = 0; at < bytes.length;) {
    const size = 1 + draw.below(100_000)
    store.push(bytes.subarray(at, at + size))
    at += size
  }
  store.end()
  for (const [cid, block] of many) expect(store.block(store.findCid(cid)).equals(block)).toBe(true)
  const nobody = 'bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a'
  expect(store.findCid(parseCid(nobody)!)).toBe(-1)
})

test('a spool that cannot be written is a fault of the moment, not of the repository', () => {
  using store = new CarStore({ bytes: 1e8, blocks: 1e6, blockBytes: 1e6 }, { memoryBytes: 0, folder: '/nowhere' })
  const block = Buffer.alloc(200_000)
  expect(() => store.push(writeCar(cidOf(block), [[cidOf(block), block]]))).toThrow(TransientError)
})

test('who counts the memory is asked before it grows, and decides what goes to the file', () => {
  const asked: number[] = []
  const spool = { memoryBytes: 1e9, mayKeep: (bytes: number) => asked.push(bytes) <= 2 }
  using store = new CarStore({ bytes: 1e8, blocks: 1e6, blockBytes: 1e6 }, spool)
  const blocks = Array.from({ length: 400 }, (_, i) => Buffer.alloc(10_000, i))
  store.push(
    writeCar(
      cidOf(blocks[0]!),
      blocks.map((block) => [cidOf(block), block] as const),
    ),
  )
  expect(asked.length).toBeGreaterThan(3)
  expect(store.memoryBytes).toBeLessThan(1e6)
  for (const block of blocks) expect(store.block(store.findCid(cidOf(block))).equals(block)).toBe(true)
})

test('a spool leaves no file behind, and closes the one it had', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-test-'))
  const openFiles = () => readdirSync('/proc/self/fd').length
  const before = openFiles()
  const limits = { bytes: 1e8, blocks: 1e6, blockBytes: 1e6 }
  const store = new CarStore(limits, { memoryBytes: 0, folder })
  const block = Buffer.alloc(100_000)
  const large = writeCar(
    cidOf(block),
    Array.from({ length: 100 }, () => [cidOf(block), block] as const),
  )
  using within = new CarStore(limits, { memoryBytes: 1e8, folder })
  within.push(large)
  expect(openFiles()).toBe(before) // there is no file before it is needed
  store.push(large)
  expect(openFiles()).toBe(before + 1)
  expect(readdirSync(folder)).toEqual([])
  expect(store.block(store.findCid(cidOf(block))).equals(block)).toBe(true)
  store[Symbol.dispose]()
  expect(openFiles()).toBe(before)
  rmSync(folder, { recursive: true })
})

function withHeader(header: unknown): Buffer {
  const bytes = encodeCbor(header)
  return Buffer.concat([varint(bytes.length), bytes])
}
