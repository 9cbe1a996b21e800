/** What the bench calls CPU time: of a process, of a tree of processes, and of the whole machine. */
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { childrenOf, cpuSecondsOf, cpuSecondsOfMachine, cpuSecondsOfTree } from './cpu.ts'

const BURN = `const until = process.cpuUsage().user + 500_000; while (process.cpuUsage().user < until);`

test('what another process takes is in the figure of the machine and, once it is reaped, of the tree, but not of this process', () => {
  const before = { own: cpuSecondsOf(process.pid), tree: cpuSecondsOfTree(process.pid), machine: cpuSecondsOfMachine() }
  expect(spawnSync(process.execPath, ['-e', BURN]).status).toBe(0)
  const own = cpuSecondsOf(process.pid) - before.own
  // The machine's time is counted in ticks, the processes' exactly.
  expect(cpuSecondsOfMachine() - before.machine - own).toBeGreaterThan(0.25)
  expect(cpuSecondsOfTree(process.pid) - before.tree - own).toBeGreaterThan(0.45)
})

test('a process that has ended has no time and no children', () => {
  const { pid } = spawnSync(process.execPath, ['-e', ''])
  expect(cpuSecondsOf(pid)).toBe(0)
  expect(childrenOf(pid)).toEqual([])
})
