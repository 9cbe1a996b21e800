/** Where throw-away data go on a machine that has no room for them in memory. */
import { tmpdir } from 'node:os'
import { expect, test } from 'vitest'
import { throwawayParent } from './memory-disk.ts'

test('what is thrown away is written to the temporary directory where there is no file system in memory, or none with room', () => {
  // Of `/proc` the size is 0, as that of a container's /dev/shm is small.
  expect(['/nowhere', '/proc'].map((disk) => throwawayParent(disk))).toEqual([tmpdir(), tmpdir()])
})
