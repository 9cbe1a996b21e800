/**
 * The collections of one indexer: collections with a plugin, and patterns of collections that are only stored. The same
 * set decides what is indexed from live events, from exports and on deletion, and what an ingester lets through.
 */
import type { Collection } from './define.ts'
import { FatalError } from '@sluice/runtime/errors.ts'
import { compileRecord, type RecordSchema } from './lexicon/compile.ts'
import { findUnstorable } from './lexicon/data-model.ts'
import { findUndated } from './lexicon/readable.ts'
import { collectionFilter, type CollectionFilter } from './patterns.ts'

export class CollectionSet {
  readonly #plugins: ReadonlyMap<string, Collection>
  readonly #schemas = new Map<string, RecordSchema>()
  readonly #isListed: CollectionFilter

  /**
   * @param patterns collections to store without a plugin. Each is an NSID, a prefix with `.*` (`app.foo.*` is not
   * `app.foobar.x`), or `*` for all
   * @throws FatalError for a lexicon that is missing or wrong, a pattern of another form, a collection that is listed
   * twice
   */
  constructor(plugins: readonly Collection[], patterns: readonly string[] = []) {
    this.#plugins = new Map(plugins.map((plugin) => [plugin.nsid, plugin]))
    this.#isListed = collectionFilter(patterns)
    const twice = plugins.find((plugin) => this.#plugins.get(plugin.nsid) !== plugin)
    if (twice) throw new FatalError(`the collection ${twice.nsid} is in the list twice`)
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
    return this.#plugins.has(nsid) || this.#isListed(nsid)
  }

  /**
   * What is wrong with a record, or undefined when it is valid. Where no lexicon applies (the collection is only
   * stored, or its plugin does not validate), the value must still be a record of the data model.
   */
  validate(nsid: string, record: unknown): string | undefined {
    const unusable = findUnstorable(record) ?? (this.#plugins.has(nsid) ? findUndated(record) : undefined)
    if (unusable) return `record${unusable.path}: ${unusable.message}`
    const violation = this.#schemas.get(nsid)?.validate(record)
    return violation && `${violation.path}: ${violation.message}`
  }
}
