import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Child, childProcesses, runningChildren } from './children.ts'
import { expect, test } from './fixtures.ts'
import { freePort } from './ports.ts'

const PARENT = fileURLToPath(new URL('testing/parent.ts', import.meta.url))

interface Family {
  pids: number[]
  directories: string[]
}

for (const end of ['SIGKILL', 'exit', 'crash'] as const) {
  test(`nothing outlives a parent that ends by ${end}`, async () => {
    const parent = spawn(process.execPath, [PARENT, end], { stdio: ['ignore', 'pipe', 'ignore'] })
    const family = await new Promise<Family>((resolve) => {
      let text = ''
      parent.stdout.on('data', (chunk: Buffer) => {
        text += chunk.toString()
        if (text.includes('\n')) resolve(JSON.parse(text) as Family)
      })
    })
    expect(family.pids.length).toBe(end === 'SIGKILL' ? 4 : 3)
    if (end === 'SIGKILL') {
      expect(family.pids.filter(isAlive)).toEqual(family.pids)
      expect(family.directories.filter((directory) => existsSync(directory))).toEqual(family.directories)
      parent.kill('SIGKILL')
    }
    await expect.poll(() => family.pids.filter(isAlive), { timeout: 25_000 }).toEqual([])
    await expect.poll(() => family.directories.filter((path) => existsSync(path)), { timeout: 5_000 }).toEqual([])
  })
}

test('an end before readiness shows the last lines', async () => {
  const child = await start('echo one; echo two >&2; exit 3')
  const ready = child.waitUntil('ready', async () => false)
  await expect(ready).rejects.toThrow(
    /^shell ended \(code 3\) before it was ready; its last lines:\n(one\ntwo|two\none)$/,
  )
})

test('stop kills what does not go, and the exit says so', async () => {
  const child = await start(`trap '' TERM; echo deaf; while :; do sleep 0.05; done`)
  await child.waitUntil('deaf', async () => child.log.lines.includes('deaf'))
  expect(runningChildren()).toEqual([child])
  expect(childProcesses().some((line) => line.startsWith(`${child.pid} sh`))).toBe(true)
  expect(await child.stop({ graceMs: 100 })).toEqual({ code: null, signal: 'SIGKILL' })
  expect(runningChildren()).toEqual([])
})

test('a command that does not exist is an error that names it', async () => {
  const start = Child.start({ name: 'ghost', command: '/nonexistent/ghost', args: [] })
  await expect(start).rejects.toThrow('cannot start ghost (/nonexistent/ghost)')
})

test('ports are never handed out twice, and lie below the range of outgoing connections', async () => {
  const ports = await Promise.all(Array.from({ length: 50 }, () => freePort()))
  expect(new Set(ports).size).toBe(50)
  expect(Math.max(...ports)).toBeLessThan(32_768)
})

function start(script: string): Promise<Child> {
  return Child.start({ name: 'shell', command: 'sh', args: ['-c', script], env: { PATH: process.env.PATH } })
}

/** A zombie has ended: whether its new parent has collected it yet is not our concern. */
function isAlive(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return false
  }
}
