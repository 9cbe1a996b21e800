/**
 * `npm run mutants [-- <part of a name or file>…]`: puts each fault of the list into a copy of the tree and asserts
 * that the test named for it fails.
 *
 * Before that each of those tests runs once without a fault, and must pass: otherwise its failing says nothing. Prints
 * a line per mutant, then the survivors; exits 1 when there are any, and 2 when a part names no mutant. All of them
 * take half an hour on two cores that have other things to do; name a folder to run fewer.
 */
import { join } from 'node:path'
import { readWords, usageError } from '@sluice/sandbox/command-line.ts'
import { MUTANTS } from './mutants/list.ts'
import type { Killer, Mutant } from './mutants/mutant.ts'
import { runKiller } from './mutants/run-killer.ts'
import { Scratch } from './mutants/scratch.ts'

const USAGE = 'npm run mutants [-- <part of a name or file>…], for example: npm run mutants -- packages/streams'
const wanted = readWords(USAGE)
const matches = ({ name, file }: Mutant, part: string): boolean => `${name} ${file}`.includes(part)
for (const part of wanted) {
  if (MUTANTS.some((mutant) => matches(mutant, part))) continue
  usageError(`no mutant has '${part}' in its name or its file`, USAGE)
}
const chosen = MUTANTS.filter((mutant) => wanted.length === 0 || wanted.some((part) => matches(mutant, part)))

using scratch = new Scratch(join(import.meta.dirname, '..'))
for (const [signal, exitCode] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  process.once(signal, () => {
    scratch[Symbol.dispose]()
    process.exit(exitCode)
  })
}

const unfit = await unfitKillers(chosen)
const survivors: string[] = []
for (const mutant of chosen) {
  const verdict = unfit.get(keyOf(mutant.killedBy)) ?? (await plant(mutant))
  const died = verdict.startsWith('killed')
  if (!died) survivors.push(`${mutant.name} (${mutant.file})\n    ${verdict}`)
  console.log(`${died ? 'killed  ' : 'SURVIVED'}  ${mutant.name}  ·  ${verdict}`)
}
for (const survivor of survivors) console.log(`\nnot killed: ${survivor}`)
console.log(`\n${chosen.length - survivors.length} killed, ${survivors.length} not, of ${chosen.length}`)
process.exitCode = survivors.length > 0 ? 1 : 0

/** Tests that do not pass as the code stands, and why: their failing would say nothing of a mutant. */
async function unfitKillers(mutants: readonly Mutant[]): Promise<Map<string, string>> {
  const killers = new Map(mutants.map(({ killedBy }) => [keyOf(killedBy), killedBy]))
  const found = new Map<string, string>()
  for (const [key, killer] of killers) {
    const { passed, failed, timedOut, output } = await runKiller(scratch.root, killer)
    if (passed > 0 && failed.length === 0 && !timedOut) continue
    found.set(key, `not tried: ${key} does not pass without it (${failed[0] ?? output.trim()})`)
  }
  return found
}

/** Runs the mutant's test with the fault in place, and tells what came of it. */
async function plant(mutant: Mutant): Promise<string> {
  using _fault = scratch.with(mutant)
  const { passed, failed, timedOut, output } = await runKiller(scratch.root, mutant.killedBy)
  if (failed.length > 0) return `killed by "${failed[0]}"${failed.length > 1 ? ` and ${failed.length - 1} more` : ''}`
  if (timedOut) return 'killed: the tests hang'
  return passed > 0 ? `${keyOf(mutant.killedBy)} passes all the same` : `no test ran: ${output.trim()}`
}

function keyOf({ file, test }: Killer): string {
  return test === undefined ? file : `${file} (${test})`
}
