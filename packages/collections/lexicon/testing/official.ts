/** The oracle: the official indexer itself, and the official builder of schemas for other lexicons. */
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { jsonToLex, type JsonValue } from '@atproto/lex'
import { LexiconIterableIndexer, LexiconSchemaBuilder, type LexiconDocument } from '@atproto/lex-document'

/** Whether a record in lexicon JSON is accepted. */
export type Verdict = (record: unknown) => boolean

interface RecordProcessor {
  collection: string
  assertValidRecord(record: unknown): void
}

interface IndexingModule {
  IndexingService: new (
    db: object,
    resolver: object,
    background: object,
  ) => { records: Record<string, RecordProcessor> }
}

/** Collections that the official indexer does not validate. */
export const NOT_VALIDATED = ['chat.bsky.actor.declaration']

/** By collection, the checks that the official indexer itself runs before it indexes a decoded record. They throw. */
export async function officialChecks(): Promise<Map<string, (record: unknown) => void>> {
  const entry = pathToFileURL(createRequire(import.meta.url).resolve('@atproto/bsky'))
  const path = new URL('./data-plane/server/indexing/index.js', entry).href
  const { IndexingService } = (await import(path)) as IndexingModule
  const processors = Object.values(new IndexingService({}, {}, {}).records)
  return new Map(processors.map((processor) => [processor.collection, (record) => processor.assertValidRecord(record)]))
}

/** By collection, what the official indexer accepts. */
export async function officialVerdicts(): Promise<Map<string, Verdict>> {
  const checks = [...(await officialChecks())]
  return new Map(checks.map(([nsid, check]) => [nsid, (record) => accepts(() => check(decode(record)))]))
}

/** What a lexicon that is not the official indexer's accepts, by the official library. */
export async function officialVerdict(documents: readonly object[], nsid: string): Promise<Verdict> {
  const indexer = new LexiconIterableIndexer(documents.map(withFullRefs))
  const schema = await LexiconSchemaBuilder.build(indexer, `${nsid}#main`)
  return (record) => accepts(() => schema.check(decode(record)))
}

/** The official builder accepts a reference to a main definition only in the form `nsid#main`. */
function withFullRefs(document: object): LexiconDocument {
  const full = (ref: string): string => (ref.includes('#') ? ref : `${ref}#main`)
  const copy = JSON.stringify(document, (key, value: unknown) => {
    if (key === 'ref' && typeof value === 'string') return full(value)
    return key === 'refs' ? (value as string[]).map(full) : value
  })
  return JSON.parse(copy) as LexiconDocument
}

function decode(record: unknown): unknown {
  return jsonToLex(record as JsonValue)
}

function accepts(check: () => void): boolean {
  try {
    check()
    return true
  } catch {
    return false
  }
}
