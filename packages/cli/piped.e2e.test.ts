/** The command line as it is typed in the repository, through npm, which has words of its own. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const PAGES = ['README.md', 'DATAPLANE_DEBUG.md', 'docs/cli.md', 'packages/sandbox/demo/beside.ts']

test('what the pages tell to type in the repository gives one JSON document, and nothing before it', () => {
  for (const page of PAGES) {
    const text = readFileSync(`${ROOT}/${page}`, 'utf8')
    const commands = new Set(text.match(/npm run [^\n]*?sluice --(?= )|npm run [^\n]*?sluice --(?=`)/g))
    expect(commands.size, page).toBe(1)
    const { stdout } = spawnSync('sh', ['-c', `${[...commands][0]} config --json`], { cwd: ROOT, encoding: 'utf8' })
    expect(() => JSON.parse(stdout) as unknown, `${page}: ${stdout.slice(0, 100)}`).not.toThrow()
  }
})
