/** Writes `docs/differences.md`: `node packages/indexing/oracle/write-differences.ts`. */
import { writeFile } from 'node:fs/promises'
import { readOptions } from '@sluice/sandbox/command-line.ts'
import { format, resolveConfig } from 'prettier'
import { differencesPage } from './differences-page.ts'

readOptions('node packages/indexing/oracle/write-differences.ts', {})
const path = new URL('../../../docs/differences.md', import.meta.url).pathname
await writeFile(path, await format(differencesPage(), { ...(await resolveConfig(path)), parser: 'markdown' }))
