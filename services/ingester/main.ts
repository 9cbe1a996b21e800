/** The ingester: brings the firehose, repositories and labels from upstream to Redis, verified. */
import { runMain } from '@sluice/runtime/main.ts'
import { VARIABLES } from '@sluice/runtime/variables.ts'
import { buildIngester } from './build.ts'
import { ingesterConfig } from './config.ts'

await runMain({ config: ingesterConfig, known: VARIABLES, start: buildIngester })
