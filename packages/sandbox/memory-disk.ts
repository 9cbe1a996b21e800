/**
 * The file system in memory that Linux has at /dev/shm, for what is thrown away and need not survive a power cut.
 *
 * A test's database is some 700 files. To make and remove one cost 160 to 220 ms of a core and 300 to 540 ms in all on
 * ext4; in memory 20 to 26 ms and 40 ms (two slow cores, November 2026).
 */
import { accessSync, constants, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'

const MEMORY_DISK = '/dev/shm'

/** In bytes: more than the tests that run at the same time write there. A container's /dev/shm has 64 MB. */
const ROOM = 4 * 2 ** 30
/** In bytes, of the machine or of our control group: what is written there is taken from the memory of programs. */
const MEMORY = 8 * 2 ** 30

/** The folder for what is thrown away: in memory where there is room enough, else the temporary directory. */
export function throwawayParent(disk = MEMORY_DISK): string {
  return hasRoom(disk) ? disk : tmpdir()
}

function hasRoom(disk: string): boolean {
  try {
    accessSync(disk, constants.W_OK)
    const { bavail, bsize } = statfsSync(disk)
    return bavail * bsize >= ROOM && process.availableMemory() >= MEMORY
  } catch {
    return false
  }
}
