/** `npm run format`: writes every file as Prettier would. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { readOptions } from '@sluice/sandbox/command-line.ts'

readOptions('npm run format', {})
const root = join(import.meta.dirname, '..')
const { status } = spawnSync(
  process.execPath,
  ['node_modules/prettier/bin/prettier.cjs', '--write', '--log-level=warn', '.'],
  { cwd: root, stdio: 'inherit' },
)
process.exitCode = status ?? 1
