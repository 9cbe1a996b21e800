/**
 * The collections of one indexer: those with a plugin, and prefixes of others that are only stored. The same set decides what is indexed live, from
 * exports and on deletion, and what an ingester lets through.
 */
import type { Collection } from './define.ts'
import { compileRecord, type RecordSchema } from './lexicon/compile.ts'

export class CollectionSet {
  readonly #plugins: ReadonlyMap<string, Collection>
  readonly #schemas = new Map<string, RecordSchema>()
  readonly #patterns: readonly string[]

  /** @param patterns collections to store without a plugin: an NSID, or a prefix with `.*` (`app.foo.*` is not `app.foobar.x`) */
  constructor(plugins: readonly Collection[], patterns: readonly string[] = []) {
    this.#plugins = new Map(plugins.map((plugin) => [plugin.nsid, plugin]))
    this.#patterns = patterns
    const documents = plugins.flatMap((plugin) => (plugin.lexicon ? [plugin.lexicon] : []))
    for (const { nsid, validated } of plugins) if (validated) this.#schemas.set(nsid, compileRecord(nsid, documents))
  }

  get plugins(): Collection[] {
    return [...this.#plugins.values()]
  }

  plugin(nsid: string): Collection | undefined {
    return this.#plugins.get(nsid)
  }

  /** Whether records of this collection are stored at all. */
  stores(nsid: string): boolean {
    return this.#plugins.has(nsid) || this.#patterns.some((pattern) => matches(pattern, nsid))
  }

  /** What is wrong with a record of a collection with a plugin, or undefined when it is valid. */
  validate(nsid: string, record: unknown): string | undefined {
    const violation = this.#schemas.get(nsid)?.validate(record)
    return violation && `${violation.path}: ${violation.message}`
  }
}

function matches(pattern: string, nsid: string): boolean {
  return pattern.endsWith('*') ? nsid.startsWith(pattern.slice(0, -1)) : nsid === pattern
}
