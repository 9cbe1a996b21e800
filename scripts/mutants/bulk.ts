/** Faults of the bulk path: what the end of a first load makes up for, and what it leaves out. */
import { killersIn, type Mutant } from './mutant.ts'

const pg = killersIn('packages/indexing', 'pg')

export const bulkMutants: readonly Mutant[] = [
  {
    name: 'duplicates are told apart while others change them',
    file: 'packages/indexing/bulk/duplicates.ts',
    find: 'keys.map((key) => key[OWNER])',
    replace: 'keys.map((key) => key.creator)',
    killedBy: pg('bulk/bulk', 'C4'),
  },
  {
    name: 'at the end of a load nobody hears that a post mentions them',
    file: 'packages/collections/threads/posts.ts',
    find: "position('#mention' in json) > 0 or",
    replace: 'false or',
    killedBy: pg('bulk/left-out', 'C1'),
  },
  {
    name: 'a name that is written with escapes is overlooked at the end of a load',
    file: 'packages/collections/threads/posts.ts',
    find: " or position('\\\\u' in json) > 0",
    replace: '',
    killedBy: pg('bulk/left-out', 'C1'),
  },
  {
    name: 'at the end of a load posts with gates are not marked',
    file: 'packages/collections/threads/posts.ts',
    find: 'or (select true from thread_gate gate where gate."postUri" = post.uri limit 1)',
    replace: '',
    killedBy: pg('bulk/left-out', 'C1'),
  },
  {
    name: 'the end of a load derives every post',
    file: 'packages/indexing/bulk/posts.ts',
    find: 'derivable ?? all',
    replace: 'all',
    killedBy: pg('bulk/left-out', 'C1'),
  },
  {
    name: 'the end of a load forgets what hung on posts that ended while it derived',
    file: 'packages/indexing/bulk/posts.ts',
    find: '    await goOnFromEnded(context, byKey, plugin, begin)\n',
    replace: '',
    killedBy: pg('bulk/bulk', 'C5'),
  },
  {
    name: 'what is counted for the first time takes the place of what a batch has counted',
    file: 'packages/indexing/recount.ts',
    find: 'on conflict ("${key}") do nothing returning "${key}" as key`',
    replace: 'on conflict ("${key}") do update set "${key}" = excluded."${key}" returning "${key}" as key`',
    killedBy: pg('recount', 'C2'),
  },
  {
    name: 'who waits for a place is looked for among all who wait, as long as they were none when that was planned',
    file: 'packages/indexing/bulk/duplicates.ts',
    find: "transaction(byKey, { doing: 'telling duplicates apart' }",
    replace: "transaction(db, { doing: 'telling duplicates apart' }",
    killedBy: pg('bulk/plans'),
  },
]
