/**
 * Lexicon documents: their shape, and what a document must be before anything is compiled from it.
 * https://atproto.com/specs/lexicon
 */
import { isValidNsid } from '@atproto/syntax'
import { FatalError } from '@sluice/runtime/errors.ts'
import type { StringFormat } from './formats.ts'

export interface LexiconDocument {
  lexicon: 1
  id: string
  defs: { readonly [name: string]: Definition }
}

/**
 * A named definition, or the type of a property or an item. Queries, procedures and subscriptions are left out: no
 * record refers to them.
 */
export type Definition =
  | RecordDefinition
  | ObjectDefinition
  | ArrayDefinition
  | StringDefinition
  | IntegerDefinition
  | BooleanDefinition
  | BytesDefinition
  | BlobDefinition
  | UnionDefinition
  | { type: 'ref'; ref: string }
  | { type: 'token' | 'cid-link' | 'unknown' | 'null' }

export interface RecordDefinition {
  type: 'record'
  record: ObjectDefinition
}

export interface ObjectDefinition {
  type: 'object'
  properties?: { readonly [name: string]: Definition }
  required?: readonly string[]
  nullable?: readonly string[]
}

export interface ArrayDefinition {
  type: 'array'
  items: Definition
  minLength?: number
  maxLength?: number
}

/** `default` and `knownValues` do not affect validity. Lengths are in bytes of UTF-8. */
export interface StringDefinition {
  type: 'string'
  format?: StringFormat
  minLength?: number
  maxLength?: number
  minGraphemes?: number
  maxGraphemes?: number
  enum?: readonly string[]
  const?: string
}

export interface IntegerDefinition {
  type: 'integer'
  minimum?: number
  maximum?: number
  enum?: readonly number[]
  const?: number
}

export interface BooleanDefinition {
  type: 'boolean'
  const?: boolean
}

export interface BytesDefinition {
  type: 'bytes'
  minLength?: number
  maxLength?: number
}

export interface BlobDefinition {
  type: 'blob'
  accept?: readonly string[]
  /** In bytes. */
  maxSize?: number
}

export interface UnionDefinition {
  type: 'union'
  refs: readonly string[]
  closed?: boolean
}

/** Types that may occur only inside another definition, never as a named definition. */
const ONLY_INSIDE = new Set(['ref', 'union', 'unknown', 'null'])

/**
 * Checks that an untyped value is a lexicon document. Types inside definitions are checked when these are compiled.
 *
 * @throws FatalError when it is no lexicon document
 */
export function asDocument(value: object): LexiconDocument {
  const { lexicon, id, defs } = value as Record<string, unknown>
  if (typeof id !== 'string' || !isValidNsid(id))
    throw new FatalError(`a lexicon document's id is ${JSON.stringify(id)}, not an NSID`)
  if (lexicon !== 1) throw new FatalError(`lexicon ${id}: the version is ${JSON.stringify(lexicon)}, not 1`)
  if (typeof defs !== 'object' || defs === null) throw new FatalError(`lexicon ${id} has no defs`)
  for (const [name, definition] of Object.entries(defs as Record<string, Definition>)) {
    if (definition.type === 'record' && (name !== 'main' || definition.record?.type !== 'object')) {
      throw new FatalError(`lexicon ${id}#${name}: a record is the main definition and holds an object`)
    }
    if (ONLY_INSIDE.has(definition.type))
      throw new FatalError(`lexicon ${id}#${name}: a ${definition.type} cannot stand under a name`)
  }
  return value as LexiconDocument
}
