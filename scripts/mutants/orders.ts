/**
 * Faults that show only in certain orders of arrival, or certain splits into batches: what the random worlds found
 * (packages/indexing/worlds.pg.test.ts), each by its own scene.
 */
import { killersIn, type Mutant } from './mutant.ts'

const pg = killersIn('packages/indexing', 'pg')
const orders = (test: string) => pg('orders', test)
const ownCommits = pg('own-commits', 'lets in by its own commits while it is there')
const ended = pg('own-commits', 'lets in by its own commits, though it has ended')

export const orderMutants: readonly Mutant[] = [
  {
    name: 'a follow or list item that waits behind another lets nobody in',
    file: 'packages/collections/threads/load-facts.ts',
    find: 'limit ${WAITING_MAX}',
    replace: 'limit 0',
    killedBy: orders('that waits lets its author in'),
  },
  {
    name: 'a follow or list item that waits is not seen as written meanwhile',
    file: 'packages/collections/threads/overtaken.ts',
    find: "and ${since('waiting')} limit 1",
    replace: 'limit 0',
    killedBy: orders('that begins to wait'),
  },
  {
    name: 'replies by clocks that are behind are not looked for below what is gone',
    file: 'packages/collections/threads/replies.ts',
    find: "union\n      select reply.uri, case when reply.since >= below.time then '' else below.time end",
    replace: 'union\n      select reply.uri, below.time',
    killedBy: orders('whose clock is behind'),
  },
  {
    name: 'a late version beside newer ones goes on until the next of its batch, whatever the index holds',
    file: 'packages/indexing/decide.ts',
    find: '(rev < past.until || past.goesOn === true)',
    replace: 'past.goesOn === true',
    killedBy: orders('ended when that began'),
  },
  {
    name: 'a version ends at an export that only repeats it, if both come in one batch',
    file: 'packages/indexing/version.ts',
    find: 'if (!repeats(later, version)) return [past(version, later)]',
    replace: 'return [past(version, later)]',
    killedBy: orders('was there until it was deleted'),
  },
  {
    name: 'of the versions that end in one batch the oldest says who is told',
    file: 'packages/indexing/notify-of-deletions.ts',
    find: 'seen.version.rev < one.version.rev ? [seen, one] : [one, seen]',
    replace: 'seen.version.rev > one.version.rev ? [seen, one] : [one, seen]',
    killedBy: orders('says who is told that it ended'),
  },
  {
    name: 'what is edited and deleted in one batch takes its notifications along as though only deleted',
    file: 'packages/indexing/remove.ts',
    find: 'deleted: !content && !several.has(uri)',
    replace: 'deleted: !content',
    killedBy: orders('says who is told that it ended'),
  },
  {
    name: 'what the index held ends where an older export had it ended, since it came after a newer one',
    file: 'packages/indexing/facts.ts',
    find: 'then greatest(held.until, excluded.until) else',
    replace: 'then least(held.until, excluded.until) else',
    killedBy: orders('that two exports have'),
  },
  {
    name: 'of two exports in one batch the older one says when it ended',
    file: 'packages/indexing/facts.ts',
    find: 'order by uri, since, head desc, until',
    replace: 'order by uri, since, until',
    killedBy: orders('that two exports have'),
  },
  {
    name: 'what passes for ended at the head of an export stays so, though a part of that has it',
    file: 'packages/indexing/facts.ts',
    find: 'and held.since = late.since and held.until = late.head and',
    replace: 'and held.since = late.since and false and',
    killedBy: orders('that two exports have'),
  },
  {
    name: 'a follow that an export brought counts from when it says, though its own commit has come',
    file: 'packages/indexing/own-commits.ts',
    find: 'if (commits.length === 0) return\n',
    replace: 'if (commits.length >= 0) return\n',
    killedBy: ownCommits,
  },
  {
    name: 'an ended follow that an export brought counts from when it says, though its own commit has come',
    file: 'packages/indexing/cut-facts.ts',
    find: ') next where "isSame" and claims',
    replace: ') next where false',
    killedBy: ended,
  },
  {
    name: 'who was let in by what a follow says is not looked for when its own commit comes',
    file: 'packages/collections/threads/relations.ts',
    find: 'live: live && !claims',
    replace: 'live',
    killedBy: ownCommits,
  },
  {
    name: 'of the commits by which an export may have a follow the first one counts',
    file: 'packages/indexing/decide.ts',
    find: 'version.content !== undefined && !isLaterCommit',
    replace: 'version.content !== undefined',
    killedBy: ownCommits,
  },
  {
    name: 'a follow whose own commit was dropped before an export brought it counts from when it says',
    file: 'packages/indexing/own-commits.ts',
    find: 'if (exported.size === 0) return []\n',
    replace: 'if (exported.size >= 0) return []\n',
    killedBy: ownCommits,
  },
  {
    name: 'an ended follow whose own commit was dropped before an export brought it counts from when it says',
    file: 'packages/indexing/facts.ts',
    find: "coalesce(case when head <> '' and",
    replace: 'coalesce(case when false and',
    killedBy: ended,
  },
  {
    name: 'a late version of a follow ends at the head of an export, though the export only repeated the path',
    file: 'packages/indexing/facts.ts',
    find: 'when until < "supersededAt" and',
    replace: 'when false and',
    killedBy: ended,
  },
  {
    name: 'a follow that the index held until now, by an older commit, was not there since the version between',
    file: 'packages/indexing/facts.ts',
    find: 'where last.until < ended.until and',
    replace: 'where false and',
    killedBy: ended,
  },
  {
    name: 'a gap in a follow that an export repeated says that nothing was there after it',
    file: 'packages/indexing/remember.ts',
    find: "where ${isGap('before')} or ${isVersion('before')}",
    replace: 'where false',
    killedBy: ended,
  },
  {
    name: 'of two deletions without what was between them the first one is forgotten',
    file: 'packages/indexing/decide.ts',
    find: "if (known?.state === 'deleted') decisions.past.push",
    replace: "if (known?.state === 'deleted' && known.rev === '') decisions.past.push",
    killedBy: ended,
  },
  {
    name: 'who was told of a like before their reply in a muted thread came stays told',
    file: 'packages/indexing/mutes.ts',
    find: 'if (places.length === 0) return',
    replace: 'if (places.length >= 0) return',
    killedBy: pg('muted-threads', 'hears nothing of their reply'),
  },
  {
    name: 'who is told of a like beside which their reply in a muted thread comes stays told',
    file: 'packages/indexing/mutes.ts',
    find: 'await lockPosts(tx, {',
    replace: 'void (lockPosts, {',
    killedBy: pg('muted-threads', 'of a like beside which their reply'),
  },
  {
    name: 'who is told of a like beside which an edit moves their reply into a muted thread stays told',
    file: 'packages/indexing/apply-batch.ts',
    find: 'placesOf([...replaced, ...late], true)',
    replace: 'placesOf([...replaced, ...late], false)',
    killedBy: pg('muted-threads', 'is moved there by an edit'),
  },
  {
    name: 'of a verification whose last version comes after its end the first one that was told stays told',
    file: 'packages/indexing/notify-of-deletions.ts',
    find: 'const isFollowing = last === since && first < since',
    replace: 'const isFollowing = false as boolean',
    killedBy: pg('verifications', 'in every order'),
  },
  {
    name: 'the range of an export comes after its records, so that an older commit between them undoes one',
    file: 'services/backfiller/export-events.ts',
    find: 'return [...(range ? [range] : []), ...creates]',
    replace: 'return [...creates, ...(range ? [range] : [])]',
    killedBy: { file: 'services/backfiller/export-events.test.ts', test: 'goes before its records' },
  },
]
