import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { type Figures, STREAMS } from './figures.ts'
import { render } from './live-table.ts'

test('README shows the table as the demo draws it, line by line, whatever the figures', () => {
  const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8')
  const [, shown] = /^(people post, like[^]*?)\n```$/m.exec(readme)!
  const now: Figures = {
    at: 1_000,
    streams: STREAMS.map((name) => ({ name, depth: 0, lagSeconds: 0, appended: 0 })),
    rows: new Map(),
    repos: { done: 24, dead: 0, underWay: 0, hosts: 0, left: 0, records: 0, bytes: 0, etaSeconds: 0 },
  }
  const headline = 'people post, like, follow and delete while the daemons run (Ctrl-C to stop and compare)'
  const layout = (lines: readonly string[]): string[] => lines.map((line) => line.replaceAll(/ *\d[\d.,]*/g, ' 0'))
  expect(layout(shown!.split('\n'))).toEqual(layout(render(headline, now, undefined)))
})
