/**
 * Makes records from a lexicon: nearly always valid, with values at the limits of what the lexicon allows. Uses no code
 * of the checks under test.
 */
import type {
  ArrayDefinition,
  BlobDefinition,
  Definition,
  LexiconDocument,
  ObjectDefinition,
  StringDefinition,
} from '../document.ts'
import type { Random } from './random.ts'
import { rawCid, cid, SAMPLES, text } from './samples.ts'

/** Deeper than this, optional properties are left out and arrays stay empty, so that circular lexicons end. */
const DEPTH = 8

/**
 * About how many of its optional properties an object gets. Each of them is one more chance that the record is refused.
 */
const OPTIONAL = 8

export class RecordMaker {
  readonly #documents: ReadonlyMap<string, LexiconDocument>
  readonly #random: Random

  constructor(documents: readonly object[], random: Random) {
    this.#documents = new Map((documents as LexiconDocument[]).map((document) => [document.id, document]))
    this.#random = random
  }

  record(nsid: string): unknown {
    return this.#named(nsid, 0, true)
  }

  #named(name: string, depth: number, withType: boolean): unknown {
    const [nsid = '', inner = 'main'] = name.split('#')
    const definition = this.#documents.get(nsid)?.defs[inner]
    if (!definition) throw new Error(`no definition ${name}`)
    if (definition.type === 'token') return name
    const type = withType || this.#random.once(10) ? { $type: inner === 'main' ? nsid : name } : {}
    if (definition.type === 'record') return { $type: nsid, ...this.#object(nsid, definition.record, depth) }
    if (definition.type === 'object') return { ...type, ...this.#object(nsid, definition, depth) }
    return this.#value(nsid, definition, depth)
  }

  #object(
    nsid: string,
    { properties = {}, required = [], nullable = [] }: ObjectDefinition,
    depth: number,
  ): Record<string, unknown> {
    const made: Record<string, unknown> = {}
    const entries = Object.entries(properties)
    const isCrowded = entries.length > OPTIONAL
    for (const [key, definition] of entries) {
      const isLeftOut =
        depth > DEPTH || this.#random.once(3) || (isCrowded && this.#random.below(entries.length) > OPTIONAL)
      if (isLeftOut && !required.includes(key)) continue
      made[key] = nullable.includes(key) && this.#random.once(3) ? null : this.#value(nsid, definition, depth + 1)
    }
    if (this.#random.once(10)) made[this.#random.pick(['extra', 'via', 'x y', ''])] = this.#unknown()
    return made
  }

  #value(nsid: string, definition: Definition, depth: number): unknown {
    const random = this.#random
    switch (definition.type) {
      case 'string':
        return this.#string(definition)
      case 'integer':
        return (
          this.#fixed(definition) ??
          Math.max(definition.minimum ?? 0, Math.min(definition.maximum ?? 1e6, random.below(1e6)))
        )
      case 'boolean':
        return definition.const ?? random.once(2)
      case 'null':
        return null
      case 'bytes':
        return {
          $bytes: Buffer.alloc(this.#within(definition.minLength, definition.maxLength, 40))
            .toString('base64')
            .replace(/=+$/, ''),
        }
      case 'cid-link':
        return { $link: cid(random) }
      case 'blob':
        return this.#blob(definition)
      case 'unknown':
        return { a: this.#unknown(), $type: 'com.example.thing' }
      case 'array':
        return this.#array(nsid, definition, depth)
      case 'object':
        return this.#object(nsid, definition, depth)
      case 'ref':
        return this.#named(fullName(nsid, definition.ref), depth, false)
      case 'union': {
        const isUnknown = (!definition.closed && random.once(8)) || definition.refs.length === 0
        return isUnknown
          ? { $type: 'com.example.unknown', a: this.#unknown() }
          : this.#named(fullName(nsid, random.pick(definition.refs)), depth, true)
      }
      default:
        throw new Error(`no value of ${definition.type}`)
    }
  }

  #string(definition: StringDefinition & { knownValues?: string[] }): string {
    const fixed = this.#fixed(definition)
    if (fixed !== undefined) return fixed
    const { format, knownValues, minLength, maxLength, minGraphemes, maxGraphemes } = definition
    if (format) return SAMPLES[format](this.#random)
    if (knownValues && this.#random.once(2)) return this.#random.pick(knownValues)
    return text(this.#random, this.#within(minGraphemes ?? minLength, maxGraphemes ?? maxLength, 60))
  }

  #fixed<T>({ const: fixed, enum: values }: { const?: T; enum?: readonly T[] }): T | undefined {
    return fixed ?? (values && this.#random.pick(values))
  }

  #blob({ accept, maxSize }: BlobDefinition): unknown {
    const mimeType = this.#random
      .pick(accept?.length ? accept : ['text/plain'])
      .replace('*', this.#random.pick(['png', 'jpeg', '']))
    return { $type: 'blob', ref: { $link: rawCid(this.#random) }, mimeType, size: this.#within(0, maxSize, 100_000) }
  }

  #array(nsid: string, { items, minLength, maxLength }: ArrayDefinition, depth: number): unknown[] {
    const length = depth > DEPTH ? (minLength ?? 0) : this.#within(minLength, maxLength, 3)
    return Array.from({ length: Math.min(length, 12) }, () => this.#value(nsid, items, depth + 1))
  }

  /** A length between the bounds. Often equal to one of them, and now and then out of bounds by one. */
  #within(least = 0, most = Infinity, usual: number): number {
    if (this.#random.once(4)) return least
    if (most < Infinity && this.#random.once(4)) return most + (this.#random.once(6) ? 1 : 0)
    return Math.min(most, least + this.#random.below(usual))
  }

  #unknown(): unknown {
    return this.#random.pick([
      null,
      1,
      -1,
      2 ** 60,
      'x',
      true,
      [],
      [1, [2]],
      {},
      { a: { b: [{}] } },
      { $link: rawCid(this.#random) },
      { $bytes: 'AA' },
    ])
  }
}

function fullName(nsid: string, ref: string): string {
  const bare = ref.replace(/^lex:/, '')
  return bare.startsWith('#') ? nsid + bare : bare
}
