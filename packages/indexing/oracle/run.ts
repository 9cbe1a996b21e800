/** A compared run of random traffic: a seed's script, carried out on a real PDS. */
import type { Comparison, Compared } from './comparison.ts'
import { script, type ScriptOptions } from './script.ts'
import { Traffic } from './traffic.ts'

/** Its stages are two: before an account was deleted, and at the end. */
export async function runScript(
  comparison: Comparison,
  options: ScriptOptions,
): Promise<Compared & { traffic: Traffic }> {
  const steps = script(options)
  const traffic = await Traffic.create(comparison.network, `s${options.seed}`, steps)
  await traffic.run(steps, {
    beforeAccountChange: () => comparison.settled(),
    // What is left of a deleted account is a matter of its own: most is compared before.
    beforeDeletion: () => comparison.stage(),
    muteThread: (did, uri) => comparison.muteThread(did, uri),
  })
  return { traffic, ...(await comparison.finish(traffic.labels)) }
}
