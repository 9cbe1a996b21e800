/** The indexer: applies the events of the streams to PostgreSQL. */
import { runMain } from '@sluice/runtime/main.ts'
import { VARIABLES } from '@sluice/runtime/variables.ts'
import { indexerConfig } from './config.ts'
import { buildIndexer } from './build.ts'

await runMain({ config: indexerConfig, known: VARIABLES, start: buildIndexer })
