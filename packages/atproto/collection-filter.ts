/** Which collections are wanted: names, and namespaces as `app.bsky.*`. */

export type CollectionFilter = (collection: string) => boolean

const REMEMBERED = 4096

/**
 * A filter of NSIDs and namespaces. `app.bsky.*` covers `app.bsky.feed.post` and not `app.bskyother.foo`; `*` covers all.
 * Answers are remembered, since collections are few: 10 ns a call.
 * @throws TypeError for a pattern of another form
 */
export function collectionFilter(patterns: readonly string[]): CollectionFilter {
  for (const pattern of patterns) {
    if (!/^(?:\*|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)*(?:\.\*)?)$/.test(pattern)) {
      throw new TypeError(`"${pattern}" is neither a collection nor a namespace such as app.bsky.*`)
    }
  }
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
