/** The backfiller: fetches whole repositories, verifies them, and appends their records for the indexer. */
import { assertSpoolFolder } from '@sluice/atproto/slabs.ts'
import { runMain } from '@sluice/runtime/main.ts'
import { VARIABLES } from '@sluice/runtime/variables.ts'
import { Backfiller } from './backfiller.ts'
import { backfillerConfig } from './config.ts'

await runMain({
  config: backfillerConfig,
  known: VARIABLES,
  start({ config, log, metrics, readiness }) {
    // Otherwise a folder that cannot be written would be noticed only at the first large repository, hours later.
    assertSpoolFolder(config.spoolDir)
    return [new Backfiller({ config, log, metrics, readiness })]
  },
})
