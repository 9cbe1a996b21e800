/** Faults that show only in certain orders of arrival, or certain splits into batches: what the random worlds found (packages/indexing/worlds.pg.test.ts), each by its own scene. */
import { killersIn, type Mutant } from './mutant.ts'

const orders = (test: string) => killersIn('packages/indexing', 'pg')('orders', test)

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
    file: 'packages/indexing/remember.ts',
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
]
