/**
 * Large pieces of bytes that are written once and read anywhere: in memory, and beyond a budget in a file.
 *
 * The file has no name (it is removed as soon as it is open), so nothing is left of it when the process dies. A read from it
 * is a system call of about 2 µs out of the page cache, which is nothing against fetching what is in it.
 */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Budget } from '@sluice/runtime/budget.ts'
import { TransientError } from '@sluice/runtime/errors.ts'

/** There is no room on our side, now: in memory or on the disk. It says nothing of whoever sent what there is no room for. */
export class NoRoomError extends TransientError {
  override name = 'NoRoomError'
}

export interface Spool {
  /** Bytes that may stay in memory; default: as many as `mayKeep` allows. */
  memoryBytes?: number
  /** Where the file is; the system's folder for such things when absent. */
  folder?: string
  /** What the files of several may take of the disk together; one, at most `fileBytesMax` of it. */
  disk?: Budget
  /** Asked before more is kept in memory, `bytes` in all, where `memoryBytes` allows it; false sends a slab to the file. Default: it may. */
  mayKeep?: (bytes: number) => boolean
}

/**
 * The largest file where all may take `diskBytes`, and the others leave `left` of them: half when there are no others, and of what they leave a
 * part that is the smaller the more they have. What slow hosts have sent stays for hours, and must not be all that there is room for.
 */
export function fileBytesMax(diskBytes: number, left = diskBytes): number {
  return Math.floor(((left / diskBytes) * left) / 2)
}

export class Slabs implements Disposable {
  readonly #spool: Spool | undefined
  /** A slab, or where it starts in the file. */
  readonly #slabs: (Buffer | number)[] = []
  #memoryBytes = 0
  #file = -1
  #fileBytes = 0
  /** Of the disk's budget. */
  #diskBytes = 0

  constructor(spool?: Spool) {
    this.#spool = spool
  }

  get count(): number {
    return this.#slabs.length
  }

  /** What the slabs take of memory. */
  get memoryBytes(): number {
    return this.#memoryBytes
  }

  /** Adds a slab, which its owner goes on writing until it is sealed. */
  add(slab: Buffer): void {
    this.#slabs.push(slab)
    this.#memoryBytes += slab.length
  }

  /**
   * The last slab is written, up to `used`, and one of `nextBytes` will follow. When it has gone to the file, its memory is given back to be used again.
   * @throws NoRoomError when the file cannot be written, or may not grow
   */
  seal(used: number, nextBytes: number): Buffer | undefined {
    const last = this.#slabs.at(-1)
    if (this.#spool === undefined || last === undefined || typeof last === 'number') return undefined
    if (this.#mayKeep(this.#spool, this.#memoryBytes + nextBytes)) return undefined
    this.#write(last, used, this.#spool)
    this.#slabs[this.#slabs.length - 1] = this.#fileBytes
    this.#fileBytes += used
    this.#memoryBytes -= last.length
    return last
  }

  #mayKeep({ memoryBytes = Infinity, mayKeep }: Spool, bytes: number): boolean {
    return this.#memoryBytes <= memoryBytes && (mayKeep?.(bytes) ?? true)
  }

  #write(slab: Buffer, size: number, { folder = tmpdir(), disk }: Spool): void {
    if (disk !== undefined && !this.#reserve(disk, size)) {
      throw new NoRoomError(
        `the files of all repositories under way may take ${disk.limit} bytes, and this one has its part of what the others leave`,
      )
    }
    try {
      if (this.#file === -1) this.#file = openNameless(folder)
      for (let at = 0; at < size;) at += writeSync(this.#file, slab, at, size - at, this.#fileBytes + at)
    } catch (cause) {
      throw new NoRoomError(`cannot spool to ${folder}: is it there, writable, and not full?`, { cause })
    }
  }

  #reserve(disk: Budget, size: number): boolean {
    const left = disk.limit - (disk.used - this.#diskBytes)
    if (this.#diskBytes + size > fileBytesMax(disk.limit, left) || !disk.tryAcquire(size)) return false
    this.#diskBytes += size
    return true
  }

  /** The bytes from `start` to `end` of a slab: a view, or a copy from the file. */
  read(number: number, start: number, end: number): Buffer {
    const slab = this.#slabs[number]!
    if (typeof slab !== 'number') return slab.subarray(start, end)
    const bytes = Buffer.allocUnsafe(end - start)
    for (let at = 0; at < bytes.length;) {
      const size = readSync(this.#file, bytes, at, bytes.length - at, slab + start + at)
      if (size === 0) throw new Error('the spool file has shrunk')
      at += size
    }
    return bytes
  }

  [Symbol.dispose](): void {
    if (this.#file !== -1) closeSync(this.#file)
    this.#file = -1
    this.#slabs.length = 0
    this.#spool?.disk?.release(this.#diskBytes)
    this.#diskBytes = 0
  }
}

function openNameless(folder: string): number {
  const own = mkdtempSync(join(folder, 'sluice-'))
  try {
    return openSync(join(own, 'blocks'), 'wx+', 0o600)
  } finally {
    rmSync(own, { recursive: true })
  }
}
