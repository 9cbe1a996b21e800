/** `sluice doctor`: what is wrong, how that was seen, what it means, and what mends it. Changes nothing. */
import { EXIT, examples, type Add } from '../cli.ts'
import { LIMITS, type Limits } from '../doctor/finding.ts'
import { diagnose } from '../doctor/diagnose.ts'
import type { Session } from '../session.ts'
import { inspectSystem } from '../system-state.ts'

export const addDoctor: Add = (cli, parent) => {
  parent
    .command('doctor')
    .description('look for everything that is known to go wrong; exit 0 when nothing is found, 1 when something is')
    .option('--lag <seconds>', 'from when on the index is behind', String(LIMITS.lagSeconds))
    .addHelpText(
      'after',
      examples(
        ['sluice doctor', 'what is wrong, and the command that mends it'],
        ['sluice doctor --json | jq -r ".findings[].id"', 'for alerts: the anchors of DATAPLANE_DEBUG.md'],
        ['sluice doctor --lag 60', 'be stricter about lag'],
      ),
    )
    .action(({ lag }: { lag: string }, command) => {
      const lagSeconds = Number(lag)
      if (!(lagSeconds > 0)) command.error('error: --lag needs a number of seconds')
      const deadSeconds = Math.min(LIMITS.deadSeconds, lagSeconds)
      return cli.run(async (session) => examine(session, { ...LIMITS, lagSeconds, deadSeconds }))
    })
}

async function examine(session: Session, limits: Limits): Promise<number> {
  const { out, settings } = session
  const state = await inspectSystem(session)
  const findings = diagnose(state, limits)
  out.document({ time: state.time, findings })
  for (const { id, severity, what, evidence, meaning, mend } of findings) {
    out.line(`${out.paint(severity === 'broken' ? 'bad' : 'warn', severity === 'broken' ? '✗' : '!')} ${out.paint('strong', what)}  ${out.paint('faint', id)}`) // prettier-ignore
    out.line(`    seen   ${evidence}`)
    out.line(`    means  ${meaning}`)
    out.line(`    mend   ${out.paint('good', mend)}`)
    out.line(`    more   DATAPLANE_DEBUG.md#${id}`)
    out.line()
  }
  if (findings.length > 0) {
    out.line(`${findings.length} findings; the first is likely to be the cause of those behind it`)
    return EXIT.found
  }
  out.line(out.paint('good', 'Nothing is wrong.'))
  const unseen = [
    ...(settings.postgresUrl === undefined ? ['PostgreSQL (DB_POSTGRES_URL is not set)'] : []),
    ...(state.daemons.length === 0 ? ['the daemons themselves (SLUICE_DAEMONS is not set, none on this machine)'] : []),
    ...(state.redis.state && !state.redis.state.connection.clients
      ? ['who is connected to Redis (it does not tell)']
      : []),
  ]
  if (unseen.length > 0) out.line(`Not looked at: ${unseen.join('; ')}.`)
  return EXIT.done
}
