/**
 * `npm start`: the three daemons on embedded stores against the real network.
 *
 * `RELAY_HOSTS` (default: the public relay), `LABELER_HOSTS` (default: Bluesky's moderation service) and every other
 * variable of the daemons are passed on. The data stay in `.sandbox/start`, or `--dir`, so the next start goes on where
 * this one stopped. Ctrl-C drains and stops. When a store or a daemon ends by itself, it says which, stops the others,
 * and ends with 1: nothing here starts one again.
 */
import { join, resolve } from 'node:path'
import { VARIABLES } from '@sluice/runtime/variables.ts'
import { readOptions } from './command-line.ts'
import { Beside } from './demo/beside.ts'
import { FigureReader } from './demo/figures.ts'
import { showLive } from './demo/live-table.ts'
import { startDaemons, Stores } from './demo/stack.ts'

const values = readOptions('npm start [-- --dir <folder>], with the variables of docs/configuration.md', {
  dir: { type: 'string', default: join(import.meta.dirname, '../../.sandbox/start') },
})
const dir = resolve(values.dir)

const stopping = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (stopping.signal.aborted) process.exit(130)
    stopping.abort()
  })
}

console.log(`· starting PostgreSQL and Redis on ${dir}`)
await using stores = await Stores.start(dir)
const given = ofTheShell()
// Variables are read under their alternative names too: a variable set here would take precedence over an alternative
// name that the caller set.
const env: Record<string, string> = {
  RELAY_HOSTS: given.INGESTER_HOSTS || given.INGESTER_RELAY_HOSTS || 'https://relay1.us-east.bsky.network',
  LABELER_HOSTS: given.INGESTER_LABELER_HOSTS ?? 'https://mod.bsky.app',
  ...given,
}
console.log(`· starting the indexer, the backfiller and the ingester against ${env.RELAY_HOSTS}`)
await using daemons = await startDaemons(stores, env)
console.log(`· PostgreSQL: ${stores.databaseUrl.replace(/:[^:@/]+@/, ':…@')} · Redis: ${stores.redis.url()}`)
using beside = new Beside(stores, daemons, env)
console.log(`· beside it, from another terminal: ${beside.command} status`)
for (const { role, port } of daemons.all) console.log(`· ${role}: http://127.0.0.1:${port}/ready · /metrics`)

await using reader = await FigureReader.open(stores, daemons)
const headline = (): string => `${env.RELAY_HOSTS} → ${dir} (Ctrl-C to stop)`
const table = showLive({ reader, headline, signal: stopping.signal })
const ended = await Promise.race([table, daemons.ended(), stores.ended()])
stopping.abort()
// Its last lines must not be drawn over.
await table
if (ended !== undefined) {
  console.error(`${ended}\n\nStopping. The data are kept in ${dir}: mend the cause, and npm start goes on with them.`)
  process.exitCode = 1
}

/** The daemons' variables that the caller set, except those that name the stores, which this program starts itself. */
function ofTheShell(): Record<string, string> {
  const ours = /^(METRICS_PORT|REDIS_URL|REDIS_HOST|DATABASE_URL|(BSKY_)?DB_POSTGRES_(URL|SCHEMA))$/
  return Object.fromEntries(
    VARIABLES.filter((name) => !ours.test(name)).flatMap((name) => {
      const value = process.env[name]
      return value === undefined ? [] : [[name, value]]
    }),
  )
}
