/** What the lexicon guarantees of a valid post, as far as its rows (`post.ts`) and its verdict (`threads/`) need it. */
import type { StrongRef } from '../define.ts'
import type { Facetted } from '../threads/load-facts.ts'
import type { Embed } from './post-embeds.ts'

export interface Post extends Facetted {
  text: string
  reply?: { root: StrongRef; parent: StrongRef }
  embed?: Embed
  langs?: string[]
  tags?: string[]
}
