/**
 * Entries that nobody can read, as a faulty or hostile writer would append them; each must become one dead letter, and
 * nothing else.
 */
import type { Random } from '@sluice/sandbox/random.ts'
import { listDeadLetters } from '@sluice/streams/testing/list-letters.ts'
import { STREAMS, type StreamName, type System } from './system.ts'

export interface Poison {
  stream: StreamName
  fields: Record<string, string>
  /** Stands somewhere in the fields. */
  mark: string
}

const KINDS: ((field: string, mark: string) => Record<string, string>)[] = [
  (field, mark) => ({ [field]: `{ this is no JSON: ${mark}` }),
  (_, mark) => ({ surprise: mark }),
  (field, mark) => ({ [field]: JSON.stringify({ type: 'surprise', mark }) }),
  (field, mark) => ({ [field]: JSON.stringify([mark]) }),
  (field, mark) => ({ [field]: JSON.stringify({ type: 'create', did: 7, label: mark }) }),
  (field, mark) => ({ [field]: JSON.stringify(mark) }),
]

export function poisonOf(random: Random, mark: string): Poison {
  const stream = random.pick(STREAMS)
  const field = stream === 'repo_backfill' ? 'repo' : 'event'
  return { stream, mark, fields: random.pick(KINDS)(field, mark) }
}

/** Dead letters that are no poison, and poison that is none or is there twice. */
export async function deadLetterDifferences(system: System, poison: readonly Poison[]): Promise<string[]> {
  const lines = await Promise.all(
    STREAMS.map(async (stream) => {
      const letters = await listDeadLetters(system.client, stream, 10_000)
      const own = poison.filter((each) => each.stream === stream)
      const texts = letters.map(({ fields }) => JSON.stringify(Object.values(fields)))
      const strange = letters.filter((_, i) => !own.some(({ mark }) => holds(texts[i]!, mark)))
      return [
        ...strange.map(
          ({ reason, fields, message }) =>
            `${stream}_dlq has ${reason} (${message}): ${JSON.stringify(fields).slice(0, 300)}`,
        ),
        ...own.flatMap(({ mark }) => {
          const times = texts.filter((text) => holds(text, mark)).length
          return times === 1 ? [] : [`${mark} is ${times} times in ${stream}_dlq`]
        }),
      ]
    }),
  )
  return lines.flat()
}

/** Marks end in a number: 1 is not 12. */
function holds(text: string, mark: string): boolean {
  return new RegExp(`${mark}(?!\\d)`).test(text)
}
