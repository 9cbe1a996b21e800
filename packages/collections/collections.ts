/**
 * The collections of the index. This one list decides what is indexed from live events, exports and deletions, what
 * ingester and backfiller let through, and what `sluice` verifies and counts. To add a lexicon, write a file like these
 * and add a line here (docs/add-a-lexicon.md).
 *
 * The order of the list is the order in which the rows of one batch are inserted. Posts are judged by gates, follows
 * and list items, so `post` must come after these.
 */
import profile from './app.bsky.actor/profile.ts'
import generator from './app.bsky.feed/generator.ts'
import like from './app.bsky.feed/like.ts'
import post from './app.bsky.feed/post.ts'
import postgate from './app.bsky.feed/postgate.ts'
import repost from './app.bsky.feed/repost.ts'
import threadgate from './app.bsky.feed/threadgate.ts'
import block from './app.bsky.graph/block.ts'
import follow from './app.bsky.graph/follow.ts'
import list from './app.bsky.graph/list.ts'
import listblock from './app.bsky.graph/listblock.ts'
import listitem from './app.bsky.graph/listitem.ts'
import referencelistoptout from './app.bsky.graph/referencelistoptout.ts'
import starterpack from './app.bsky.graph/starterpack.ts'
import verification from './app.bsky.graph/verification.ts'
import labeler from './app.bsky.labeler/service.ts'
import type { Collection, TableScript } from './define.ts'
import { actorStatus, chatDeclaration, germDeclaration, notificationDeclaration } from './stored-only.ts'

export const collections = [
  profile,
  follow,
  block,
  list,
  listitem,
  listblock,
  starterpack,
  verification,
  referencelistoptout,
  generator,
  labeler,
  threadgate,
  postgate,
  post,
  repost,
  like,
  actorStatus,
  notificationDeclaration,
  chatDeclaration,
  germDeclaration,
] as readonly Collection[]

/**
 * The collections that a role lets through.
 * @param chosen what the operator names for this role; nothing else is let through then
 * @param further patterns of what the indexer stores beyond the list
 */
export function wantedCollections(chosen: readonly string[], further: readonly string[]): readonly string[] {
  return chosen.length > 0 ? chosen : [...collections.map(({ nsid }) => nsid), ...further]
}

/**
 * The schema steps that the listed plugins bring for their own tables. Used to migrate a database, and to tell which
 * steps are pending.
 */
export function tableScripts(): TableScript[] {
  return collections.flatMap(({ migrations }) => migrations)
}
