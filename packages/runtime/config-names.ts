/**
 * Finds variables that were meant for Sluice and are misspelt.
 *
 * A name with a prefix of our own must be known. A name with a prefix that others use as well (`REDIS_`, `DB_`, …) is
 * suspected only when a typing slip separates it from a known name, and any other name when it is long, and one letter
 * separates it from one (`LABELLER_HOSTS`). Variables that Kubernetes and Docker inject for a
 * service called `ingester` or `redis` (`INGESTER_SERVICE_HOST`, `REDIS_PORT=tcp://…`) are not reported.
 */

const OWN_PREFIX = /^(INGESTER|BACKFILLER|INDEXER|SLUICE)_/
const SHARED_PREFIX = /^(DB|REDIS|PLC|LABELER|RELAY)_/
const INJECTED = /_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_.+)?)$/

/** Characters of a name that is unlikely to be another program's when it is so close to one of ours. */
const LONG_NAME = 11

/** Variables that the runtime itself reads, before and beside any configuration. */
const RUNTIME_NAMES = ['SLUICE_BUILD_ID', 'SLUICE_CRASH_POINTS', 'SLUICE_TEST_REDIS', 'SLUICE_TEST_POSTGRES_BIN']

/** One sentence for each variable of `env` that looks like ours and is not, with the nearest name that is. */
export function unknownNames(env: Readonly<Record<string, string | undefined>>, known: ReadonlySet<string>): string[] {
  const names = [...known, ...RUNTIME_NAMES]
  return Object.keys(env).flatMap((name) => {
    if (names.includes(name) || isInjected(name, env[name])) return []
    const [nearest, distance] = nearestName(name, names)
    const slip = distance <= (name.length >= LONG_NAME ? 2 : 1)
    const isSuspect = SHARED_PREFIX.test(name) ? slip : distance === 1 && name.length >= LONG_NAME
    if (!OWN_PREFIX.test(name) && !isSuspect) return []
    // A name that is far from every known name gets the nearest one too: it shows where to look.
    return `${name} is not a variable of ours: ${slip ? 'did you mean' : 'the nearest is'} ${nearest}? Remove or correct it.`
  })
}

function isInjected(name: string, value = ''): boolean {
  return INJECTED.test(name) || (name.endsWith('_PORT') && /^(tcp|udp|sctp):\/\//.test(value))
}

/** The candidate with the fewest edits between it and `name`, and that number. `candidates` must not be empty. */
export function nearestName(name: string, candidates: readonly string[]): [nearest: string, distance: number] {
  let best: [string, number] = ['', Infinity]
  for (const candidate of candidates) {
    const distance = editDistance(name, candidate)
    if (distance < best[1]) best = [candidate, distance]
  }
  return best
}

/** Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment). */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      row[j] = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1))
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      if (swapped) row[j] = Math.min(row[j]!, beforeLast[j - 2]! + 1)
    }
    beforeLast = last
    last = row
  }
  return last[b.length]!
}
