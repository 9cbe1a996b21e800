/**
 * `node scripts/check-house.ts [root]`: prints every broken rule of the house (`house-rules.ts`), exits 1 when there is
 * one.
 */
import { globSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { readWords } from '@sluice/sandbox/command-line.ts'
import { houseViolations } from './house-rules.ts'

const [folder = join(import.meta.dirname, '..')] = readWords('node scripts/check-house.ts [root]')
const root = resolve(folder)
const paths = globSync(
  ['{packages,services,scripts}/**/*.ts', '*.ts', '{packages,services}/*/package.json', 'package.json'],
  {
    cwd: root,
    exclude: ['**/node_modules'],
  },
)
const violations = houseViolations(new Map(paths.map((path) => [path, readFileSync(join(root, path), 'utf8')])))
for (const { path, line, rule, detail } of violations) console.log(`${path}:${line}  ${rule}: ${detail}`)
console.log(`${paths.length} files read, ${violations.length} broken rules`)
process.exitCode = violations.length > 0 ? 1 : 0
