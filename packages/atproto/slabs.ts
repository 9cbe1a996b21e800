/**
 * Large byte arrays (slabs) that are written once and read at any position. They stay in memory; beyond a budget they
 * go to a file.
 *
 * The file is removed as soon as it is open, so nothing is left of it when the process dies. A read is a system call of
 * about 2 µs out of the page cache, which is negligible against the time of the download.
 */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Budget } from '@sluice/runtime/budget.ts'
import { FatalError, TransientError } from '@sluice/runtime/errors.ts'

/** There is no room for the data in our memory or on our disk now. The host that sent the data is not at fault. */
export class NoRoomError extends TransientError {
  override name = 'NoRoomError'
}

export interface Spool {
  /** How many bytes may stay in memory. Default: as many as `mayKeep` allows. */
  memoryBytes?: number
  /** The folder of the file. Default: the system's folder for temporary files. */
  folder?: string
  /** The disk space that all spool files share. One file may take at most `fileBytesMax` of it. */
  disk?: Budget
  /**
   * Called before more is kept in memory within `memoryBytes`; `bytes` is the total with the next slab. False: the last
   * slab goes to the file. Default: always true.
   */
  mayKeep?: (bytes: number) => boolean
}

/**
 * The largest size of one file, when all files together may take `diskBytes` and the other files leave `left` bytes of
 * that. Half when there are no others; the more the others take, the smaller is the part of the rest. The data of slow
 * hosts stay for hours, and must not use up all of the space.
 */
export function fileBytesMax(diskBytes: number, left = diskBytes): number {
  return Math.floor(((left / diskBytes) * left) / 2)
}

/**
 * Makes a file as those of the spool are made. A folder that is full may have room again, and passes.
 * @throws FatalError when the folder is not there, is none, or cannot be written
 */
export function assertSpoolFolder(folder = tmpdir()): void {
  try {
    closeSync(openNameless(folder))
  } catch (cause) {
    const { code = '' } = cause as NodeJS.ErrnoException
    if (code === 'ENOSPC' || code === 'EDQUOT') return
    throw new FatalError(
      `cannot write to the folder ${folder} (${code}), where repositories go that do not fit in memory. Make it writable, or set BACKFILLER_SPOOL_DIR to another`,
      {
        cause,
      },
    )
  }
}

export class Slabs implements Disposable {
  readonly #spool: Spool | undefined
  /** Each is a slab in memory, or the offset of a slab in the file. */
  readonly #slabs: (Buffer | number)[] = []
  #memoryBytes = 0
  #file = -1
  #fileBytes = 0
  /** How many bytes of the disk budget this file has reserved. */
  #diskBytes = 0

  constructor(spool?: Spool) {
    this.#spool = spool
  }

  get count(): number {
    return this.#slabs.length
  }

  /** The memory that the slabs take. */
  get memoryBytes(): number {
    return this.#memoryBytes
  }

  /** Adds a slab. Its owner may write to it until it is sealed. */
  add(slab: Buffer): void {
    this.#slabs.push(slab)
    this.#memoryBytes += slab.length
  }

  /**
   * Seals the last slab, whose first `used` bytes are valid; a slab of `nextBytes` will follow. If the slab goes to the
   * file, returns its memory for reuse; otherwise undefined.
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
        `no room on disk: the files of all repositories under way may take ${disk.limit} bytes together (BACKFILLER_SPOOL_BYTES), and this one has its part of what the others leave`,
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
