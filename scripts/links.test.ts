import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { anchorsOf } from './testing/anchors.ts'

const root = join(import.meta.dirname, '..')
// Not asked of git: the sources may have come without it.
const pages = globSync(['*.md', '{docs,infra,packages,scripts,services}/**/*.md'], {
  cwd: root,
  exclude: ['**/node_modules'],
})

test.for(pages)('every link of %s leads somewhere', (page) => {
  const text = readFileSync(join(root, page), 'utf8')
  const dead = [...text.matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, target]) => {
    if (/^[a-z]+:/.test(target!)) return []
    const [path, anchor] = target!.split('#') as [string, string | undefined]
    const file = path === '' ? join(root, page) : join(root, dirname(page), path)
    if (!existsSync(file)) return [target]
    if (anchor === undefined || !file.endsWith('.md')) return []
    return anchorsOf(readFileSync(file, 'utf8')).has(anchor) ? [] : [target]
  })
  expect(dead).toEqual([])
})
