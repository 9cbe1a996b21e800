/**
 * Patterns that select collections: NSIDs, namespaces such as `app.bsky.*`, and `*` for all. Every service's setting
 * has this form.
 */
import { isValidNsid } from '@atproto/syntax'
import { FatalError } from '@sluice/runtime/errors.ts'

export type CollectionFilter = (collection: string) => boolean

const NAMESPACE = /^[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*\.\*$/
const REMEMBERED = 4096

/**
 * A filter of NSIDs and namespaces. `app.bsky.*` covers `app.bsky.feed.post` and not `app.bskyother.foo`; `*` covers
 * all. The filter caches its answers, since there are few collections: 10 ns a call.
 * @throws FatalError for a pattern of another form
 */
export function collectionFilter(patterns: readonly string[]): CollectionFilter {
  const problem = patternProblem(patterns)
  if (problem !== undefined) throw new FatalError(`the list of collections ${problem}`)
  if (patterns.includes('*')) return () => true
  const names = new Set(patterns)
  const prefixes = patterns.filter((pattern) => pattern.endsWith('.*')).map((pattern) => pattern.slice(0, -1))
  const answers = new Map<string, boolean>()
  return (collection) => {
    let wanted = answers.get(collection)
    if (wanted === undefined) {
      wanted = names.has(collection) || prefixes.some((prefix) => collection.startsWith(prefix))
      if (answers.size >= REMEMBERED) answers.clear()
      answers.set(collection, wanted)
    }
    return wanted
  }
}

/**
 * What is wrong with the patterns, as the end of a sentence that begins with the name of their setting. Undefined when
 * all have the right form.
 */
export function patternProblem(patterns: readonly string[]): string | undefined {
  const bad = patterns.find((pattern) => pattern !== '*' && !NAMESPACE.test(pattern) && !isValidNsid(pattern))
  return bad === undefined
    ? undefined
    : `is wrong: ${JSON.stringify(bad)} is neither an NSID nor a prefix such as com.example.*`
}

/**
 * The option by which an operator names collections that the indexer stores beyond its own list. Ingester and
 * backfiller read it too, so that they let these through.
 */
export const indexerCollectionsOption = {
  env: 'INDEXER_COLLECTIONS',
  type: 'list',
  default: [],
  check: patternProblem,
} as const
