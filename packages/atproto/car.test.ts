import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readCarWithRoot } from '@atproto/repo'
import { describe, expect, test } from 'vitest'
import { Budget } from '@sluice/runtime/budget.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { CarStore } from './car-store.ts'
import { readCar, type CarRefusal } from './car.ts'
import { encodeCbor } from './cbor-encode.ts'
import { cidOf, formatCid, parseCid } from './cid.ts'
import { varint, writeCar } from './testing/car-write.ts'
import { assertSpoolFolder, fileBytesMax, NoRoomError, type Spool } from './slabs.ts'
import { random } from './testing/random.ts'

const LIMITS = { bytes: 1_000_000, blocks: 1_000, blockBytes: 10_000 }
const blocks = Array.from({ length: 8 }, (_, i) => Buffer.from(encodeCbor({ i, text: 'x'.repeat(i * 20) })))
const entries = blocks.map((block) => [cidOf(block), block] as const)
const root = entries[0]![0]
const car = writeCar(root, entries)

/** Reads the blocks of a CAR with the store, fed in chunks of `size`. */
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

  test('more blocks, or larger ones, than allowed are refused; as many as allowed are read', () => {
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

describe('a block that comes again', () => {
  const block = Buffer.from('a0', 'hex')
  const other = Buffer.from('a16161187b', 'hex')
  const limits = { bytes: 1e9, blocks: 1_000_000, blockBytes: 1e6 }

  test('is not held again: a million of one would be looked through for each of them', () => {
    const section = Buffer.concat([Uint8Array.of(37), Buffer.from(cidOf(block), 'latin1'), block])
    const header = writeCar(cidOf(block), [])
    const empty = new CarStore(limits)
    using store = new CarStore(limits)
    for (const chunk of [header, Buffer.alloc(20_000 * section.length, section)]) store.push(chunk)
    expect(store.end()).toBe(cidOf(block))
    expect(store.blockCount).toBe(1)
    expect(store.indexBytes).toBe(empty.indexBytes)
    expect(store.block(0).equals(block)).toBe(true)
  })

  test.each([undefined, { memoryBytes: 0 }])('is known when the first of it is in the file by now: %o', (spool) => {
    const filler = Array.from({ length: 40 }, (_, i) => Buffer.alloc(10_000, i + 1))
    const blocks = [block, ...filler, block, other, ...filler, other, block]
    using store = new CarStore(limits, spool)
    const car = writeCar(
      cidOf(block),
      blocks.map((block) => [cidOf(block), block] as const),
    )
    for (let at = 0; at < car.length; at += 7_000) store.push(car.subarray(at, at + 7_000))
    expect(store.blockCount).toBe(42)
    for (const block of blocks) expect(store.block(store.findCid(cidOf(block))).equals(block)).toBe(true)
  })

  test('counts towards the limit all the same, and is hashed', () => {
    const twice = (second: Buffer) =>
      writeCar(cidOf(block), [[cidOf(block), block] as const, [cidOf(block), second] as const])
    using store = new CarStore({ ...limits, blocks: 1 })
    expect(() => store.push(twice(block))).toThrow(expect.objectContaining({ reason: 'car-too-many-blocks' }))
    using another = new CarStore(limits)
    expect(() => another.push(twice(other))).toThrow(expect.objectContaining({ reason: 'car-wrong-hash' }))
  })
})

test('what the index will take of memory with more input is told before it takes it', () => {
  const many = Array.from({ length: 3_000 }, (_, i) => Buffer.from(encodeCbor({ i })))
  const car = writeCar(
    cidOf(many[0]!),
    many.map((block) => [cidOf(block), block] as const),
  )
  // Also in chunks smaller than the shortest section, one of which completes a block.
  for (const bytes of [1_000, 20]) {
    using store = new CarStore({ bytes: 1e8, blocks: 1e6, blockBytes: 1e6 })
    for (let at = 0; at < car.length; at += bytes) {
      const told = store.indexBytesAfter(bytes)
      store.push(car.subarray(at, at + bytes))
      expect(store.indexBytes).toBeLessThanOrEqual(told)
      if (at === 0) expect(store.memoryBytes).toBe(store.indexBytes + 65_536)
    }
    expect(store.indexBytes).toBeGreaterThan(0)
    expect(store.blockCount).toBe(3_000)
  }
})

test('a spool that cannot be written is a fault of the moment, not of the repository', () => {
  using store = new CarStore({ bytes: 1e8, blocks: 1e6, blockBytes: 1e6 }, { memoryBytes: 0, folder: '/nowhere' })
  const block = Buffer.alloc(200_000)
  expect(() => store.push(writeCar(cidOf(block), [[cidOf(block), block]]))).toThrow(TransientError)
})

test('a folder that can take no spool is told beforehand, and one that can is left as it was', () => {
  for (const folder of ['/nowhere', import.meta.filename]) {
    expect(() => assertSpoolFolder(folder)).toThrow(`cannot write to the folder ${folder} (EN`)
  }
  const folder = mkdtempSync(join(tmpdir(), 'sluice-test-'))
  assertSpoolFolder(folder)
  expect(readdirSync(folder)).toEqual([])
  rmSync(folder, { recursive: true })
})

describe('the files of several stores', () => {
  const blocks = Array.from({ length: 80 }, (_, i) => Buffer.alloc(10_000, i + 1))
  const car = writeCar(
    cidOf(blocks[0]!),
    blocks.map((block) => [cidOf(block), block] as const),
  )
  const open = (disk: Budget, bytes = 1e8) =>
    new CarStore({ bytes, blocks: 1e6, blockBytes: 1e6 }, { memoryBytes: 0, disk })

  test('are bounded together, and what one has is room again when it is done', () => {
    const disk = new Budget(2_000_000)
    const [first, ...others] = Array.from({ length: 20 }, () => open(disk))
    first!.push(car)
    expect(disk.used).toBeGreaterThan(500_000)
    for (const other of others) expect(() => other.push(car)).toThrow(NoRoomError)
    expect(disk.used).toBeLessThanOrEqual(disk.limit)
    for (const block of blocks) expect(first!.block(first!.findCid(cidOf(block))).equals(block)).toBe(true)
    for (const store of [first!, first!, ...others]) store[Symbol.dispose]()
    expect(disk.used).toBe(0)
    using again = open(disk)
    again.push(car)
  })

  test('leave room for one more, when many are as large as they may be', () => {
    const disk = new Budget(16_000_000)
    const again = car.subarray(writeCar(cidOf(blocks[0]!), []).length)
    const large = Array.from({ length: 12 }, () => open(disk, 2_000_000))
    for (const store of large) {
      store.push(car.subarray(0, car.length - again.length))
      expect(() => {
        for (;;) store.push(again)
      }).toThrow()
    }
    expect(disk.used).toBeGreaterThan(12_000_000)
    using small = open(disk)
    small.push(car.subarray(0, 200_000))
    for (const store of large) store[Symbol.dispose]()
  })

  test('may each be half as large as all together, when it is alone', () => {
    const disk = new Budget(1_000_000)
    using store = open(disk)
    expect(() => store.push(car)).toThrow(NoRoomError)
    expect(disk.used).toBeGreaterThan(400_000)
    expect(disk.used).toBeLessThanOrEqual(fileBytesMax(disk.limit))
  })
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
  expect(openFiles()).toBe(before) // no file is opened before it is needed
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
