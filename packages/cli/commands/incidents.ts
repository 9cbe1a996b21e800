/** `sluice incidents`: occurrences that may have lost or delayed data, kept until an operator has seen them. */
import { classified } from '@sluice/streams/connection.ts'
import { INCIDENTS_STREAM, listIncidents } from '@sluice/streams/incidents.ts'
import { entryId, wholeNumber } from '../arguments.ts'
import { examples, type Add } from '../cli.ts'
import { count, oneLine } from '../output.ts'
import type { Session } from '../session.ts'

export const addIncidents: Add = (cli, parent) => {
  const incidents = parent
    .command('incidents')
    .description('look at what may have lost or delayed data, and clear what was dealt with')
  incidents.addHelpText(
    'after',
    examples(
      ['sluice incidents list', 'the newest first, with what was done'],
      ['sluice incidents clear', 'all of them were dealt with'],
      ['sluice incidents clear --before 1732200000000-0', 'that one and older ones'],
    ),
  )
  incidents
    .command('list')
    .description('list incidents, newest first')
    .option('-n, --count <count>', 'how many', wholeNumber(1), 50)
    .action((options: { count: number }) => cli.run((session) => list(session, options.count)))
  incidents
    .command('clear')
    .description('forget incidents that were dealt with')
    .option('--before <id>', 'only this one and older ones', entryId)
    .action((options: { before?: string }) => cli.run((session) => clear(session, options.before)))
}

async function list(session: Session, shown: number): Promise<void> {
  const { out } = session
  const redis = await session.redis()
  const found = await listIncidents(redis, shown)
  out.document(found)
  if (found.length === 0) return out.line('no incidents')
  for (const { id, time, kind, role, what, action } of found) {
    out.line(`${time}  ${out.paint('strong', kind)}  ${oneLine(role)}  ${out.paint('faint', id)}`)
    out.line(`  ${oneLine(what, 400)}`)
    out.line(`  → ${oneLine(action, 400)}`)
  }
}

async function clear(session: Session, before: string | undefined): Promise<void> {
  const redis = await session.redis()
  // Only incidents up to the newest one of now: one that arrives meanwhile must not be cleared before anybody has seen
  // it.
  const [newest] = before === undefined ? await listIncidents(redis, 1) : [{ id: before }]
  const found = newest ? await classified(redis.xRange(INCIDENTS_STREAM, '-', newest.id)) : null
  const ids = (found ?? []).map(({ id }) => id)
  const cleared = ids.length > 0 ? await classified(redis.xDel(INCIDENTS_STREAM, ids)) : 0
  session.out.document({ cleared })
  session.out.line(`${count(cleared)} incidents cleared`)
}
