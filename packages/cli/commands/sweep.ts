/** `sluice sweep`: has the ingester look for repositories of which the index lags behind. */
import { sweepDemandKey, sweptKey } from '@sluice/streams/backfill-queue.ts'
import { ingesterClientName } from '@sluice/streams/client-names.ts'
import { classified } from '@sluice/streams/connection.ts'
import { examples, type Add } from '../cli.ts'
import type { Session } from '../session.ts'
import { inspectSystem, type SystemState } from '../system-state.ts'

export const addSweep: Add = (cli, parent) => {
  parent
    .command('sweep')
    .description(
      'have the ingester compare the listing of the relays with what we have, and request what is missing or behind',
    )
    .option('--status', 'only show whether one is under way, and when the last ended')
    .addHelpText(
      'after',
      examples(
        ['sluice sweep', 'ask for one; a demand that is there already is left'],
        ['sluice sweep --status', 'is one under way?'],
      ),
    )
    .action(({ status: statusOnly }: { status?: boolean }) =>
      cli.run((session) => (statusOnly ? sweepStatus(session) : askForSweep(session))),
    )
}

/**
 * Whether an ingester that lists repositories is connected; undefined where Redis does not tell which clients are
 * connected.
 */
export function listerRuns({ redis, settings }: SystemState): boolean | undefined {
  const listers = ['all', 'backfill'].map((mode) => ingesterClientName(mode, settings.shard))
  return redis.state?.connection.clients?.some(({ name }) => listers.includes(name))
}

async function sweepStatus(session: Session): Promise<void> {
  const demand = await readDemand(session)
  await tellSweep(
    session,
    demand,
    demand === null ? 'no sweep is wanted or under way' : `wanted or under way: ${demand}`,
  )
}

async function askForSweep(session: Session): Promise<void> {
  const before = await readDemand(session)
  if (before === null) {
    const redis = await session.redis()
    // The time makes this demand differ from a demand that a sweep is meeting at this moment.
    const demand = `an operator asked (${new Date().toISOString()})`
    await classified(redis.set(sweepDemandKey(session.settings.streams.repo), demand, { NX: true }))
  }
  const what =
    before === null
      ? 'a sweep is asked for: the ingester begins within seconds'
      : `one is wanted or under way already: ${before}`
  await tellSweep(session, await readDemand(session), what)
}

async function readDemand(session: Session): Promise<string | null> {
  const redis = await session.redis()
  return await classified(redis.get(sweepDemandKey(session.settings.streams.repo)))
}

async function tellSweep(session: Session, demand: string | null, what: string): Promise<void> {
  const { out, settings } = session
  const redis = await session.redis()
  const ended = await classified(redis.get(sweptKey(settings.streams.repo)))
  out.document({ demand, ended })
  out.line(what)
  if (demand !== null && listerRuns(await inspectSystem(session)) === false)
    out.line('no ingester is connected that can do it: start one with INGESTER_MODE all or backfill')
  out.line(`the last one ended ${ended ?? 'never'}`)
}
