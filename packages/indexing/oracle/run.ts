/** Runs random traffic for a comparison: a seed's script, carried out on a real PDS. */
import type { Comparison, Compared } from './comparison.ts'
import { script, type ScriptOptions } from './script.ts'
import { Traffic } from './traffic.ts'

/** Makes two stages: before an account is deleted, and at the end. */
export async function runScript(
  comparison: Comparison,
  options: ScriptOptions,
): Promise<Compared & { traffic: Traffic }> {
  const steps = script(options)
  const traffic = await Traffic.create(comparison.network, `s${options.seed}`, steps)
  await traffic.run(steps, {
    beforeAccountChange: () => comparison.settled(),
    // What remains of a deleted account differs in its own ways, so most is compared before the deletion.
    beforeDeletion: () => comparison.stage(),
    muteThread: (did, uri) => comparison.muteThread(did, uri),
  })
  return { traffic, ...(await comparison.finish(traffic.labels)) }
}
