/** `sluice doctor`: what is wrong, what was seen of it, what it means, and what fixes it. Changes nothing. */
import { positive } from '../arguments.ts'
import { EXIT, examples, type Add } from '../cli.ts'
import { LIMITS, type Limits } from '../doctor/finding.ts'
import { diagnose } from '../doctor/diagnose.ts'
import { summaryOf } from '../doctor/summary.ts'
import type { Session } from '../session.ts'
import { inspectSystem, type SystemState } from '../system-state.ts'

export const addDoctor: Add = (cli, parent) => {
  parent
    .command('doctor')
    .description('look for everything that is known to go wrong; exit 0 when nothing is found, 1 when something is')
    .option('--lag <seconds>', 'from when on the index is behind', positive, LIMITS.lagSeconds)
    .addHelpText(
      'after',
      examples(
        ['sluice doctor', 'what is wrong, and the command that fixes it'],
        ['sluice doctor --json | jq -r ".findings[].id"', 'for alerts: the anchors of DATAPLANE_DEBUG.md'],
        ['sluice doctor --lag 60', 'be stricter about lag'],
      ),
    )
    .action(({ lag: lagSeconds }: { lag: number }) => {
      const deadSeconds = Math.min(LIMITS.deadSeconds, lagSeconds)
      return cli.run(async (session) => examine(session, { ...LIMITS, lagSeconds, deadSeconds }))
    })
}

async function examine(session: Session, limits: Limits): Promise<number> {
  const { out } = session
  const state = await inspectSystem(session)
  const findings = diagnose(state, limits)
  const notLookedAt = unseen(state)
  out.document({ time: state.time, findings, notLookedAt })
  for (const { id, severity, what, evidence, meaning, mend } of findings) {
    out.line(`${out.paint(severity === 'broken' ? 'bad' : 'warn', severity === 'broken' ? '✗' : '!')} ${out.paint('strong', what)}  ${out.paint('faint', id)}`) // prettier-ignore
    out.line(`    seen   ${evidence}`)
    out.line(`    means  ${meaning}`)
    out.line(`    mend   ${out.paint('good', mend)}`)
    out.line(`    more   DATAPLANE_DEBUG.md#${id}`)
    out.line()
  }
  if (findings.length > 0) out.line(summaryOf(findings.map(({ id }) => id)))
  else out.line(out.paint('good', 'Nothing is wrong.'))
  if (notLookedAt.length > 0) out.line(`Not looked at: ${notLookedAt.join('; ')}.`)
  return findings.length > 0 ? EXIT.found : EXIT.done
}

/** What could not be read though its server answers. That there is no finding about it means nothing. */
function unseen({ settings, daemons, redis, postgres }: SystemState): string[] {
  return [
    ...(settings.postgresUrl === undefined ? ['PostgreSQL (DB_POSTGRES_URL is not set)'] : []),
    ...(postgres?.state?.seesAllSessions === false
      ? [`what sessions of other roles do in PostgreSQL (grant pg_monitor to "${postgres.state.role}")`]
      : []),
    ...(daemons.length === 0 ? ['the daemons themselves (SLUICE_DAEMONS is not set, none on this machine)'] : []),
    ...(redis.state && !redis.state.connection.clients ? ['who is connected to Redis (it does not tell)'] : []),
  ]
}
