/**
 * `npm run docs`: writes docs/configuration.md, docs/metrics.md and packages/runtime/variables.ts from the sources.
 *
 * With `--check` it writes nothing, names what is out of date, and exits 1. It also exits 1, and writes nothing, when a
 * metric is declared in a way that cannot be read.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readOptions } from '@sluice/sandbox/command-line.ts'
import { format, resolveConfig } from 'prettier'
import { renderDocuments } from './documents.ts'
import { configOf, readRoles, root } from './roles.ts'

const { check: isCheck } = readOptions('npm run docs [-- --check]', { check: { type: 'boolean', default: false } })
const { roles, problems } = await readRoles()
for (const problem of problems) console.log(problem)
if (problems.length > 0) process.exit(1)

const stale: string[] = []
for (const [path, text] of renderDocuments(roles, await configOf('cli'))) {
  const filepath = join(root, path)
  // Tables stay as they are: padding every row to the longest cell would make each change a change of the whole table.
  const wanted = path.endsWith('.ts') ? await format(text, { ...(await resolveConfig(filepath)), filepath }) : text
  if (wanted === textOrNothing(filepath)) continue
  stale.push(path)
  if (!isCheck) writeFileSync(filepath, wanted)
}
for (const path of stale) console.log(isCheck ? `${path} is out of date` : `wrote ${path}`)
process.exitCode = isCheck && stale.length > 0 ? 1 : 0

function textOrNothing(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
