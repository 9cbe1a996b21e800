/**
 * Faults of walks down a thread: where they end, and what becomes of what they leave
 * (packages/indexing/derive-onward.ts).
 */
import { killersIn, type Mutant } from './mutant.ts'

const pg = killersIn('packages/indexing', 'pg')

export const walkMutants: readonly Mutant[] = [
  {
    name: 'what is too much for one walk is left undone',
    file: 'packages/indexing/derive-onward.ts',
    find: "for (const uri of from) onward.beyond.push({ uri, since: '' })",
    replace: '',
    killedBy: pg('large-threads'),
  },
  {
    name: 'whoever takes what was left goes on at once, round and round',
    file: 'packages/indexing/settle-later.ts',
    find: 'againMs * 2 ** Math.min(tries - 1, LEFT_DOUBLINGS_MAX)',
    replace: 'againMs * Math.min(tries, 1)',
    killedBy: pg('large-threads', 'due later each time'),
  },
  {
    name: 'of what is left each post that has replies is put off',
    file: 'packages/indexing/hand-over.ts',
    find: 'from: topmost(from, above), stay',
    replace: 'from: [...from], stay',
    killedBy: pg('large-threads', 'of what one walk'),
  },
  {
    name: 'a circle that is left whole is forgotten',
    file: 'packages/indexing/hand-over.ts',
    find: ' || passedBy.get(at) === uri',
    replace: '',
    killedBy: pg('large-threads', 'left whole'),
  },
  {
    name: 'what answers no post is left where nobody looks for it',
    file: 'packages/indexing/hand-over.ts',
    find: 'of && collectionOfUri(of) !== nsid ? null : of',
    replace: 'of',
    killedBy: pg('large-threads', 'what is no post'),
  },
  {
    name: 'what is gone when a walk is handed over is forgotten, and what hangs on it',
    file: 'packages/indexing/hand-over.ts',
    find: 'else from.add(above ?? uri)',
    replace: 'else if (above) from.add(above)',
    killedBy: pg('handed-over', 'before it is asked'),
  },
  {
    name: 'a claim that leaves its own record behind goes round and round',
    file: 'packages/indexing/settle-later.ts',
    find: 'greatest(held.tries, excluded.tries + 1)',
    replace: 'held.tries',
    killedBy: pg('large-threads', 'waits as long as if'),
  },
  {
    name: 'all that was written since the oldest transaction began is gone on from',
    file: 'packages/indexing/unseen.ts',
    find: 'pg_snapshot_xmax(pg_current_snapshot())::text as next, array(',
    replace: 'pg_snapshot_xmin(pg_current_snapshot())::text as next, array(',
    killedBy: pg('open-transactions', 'younger than an open transaction'),
  },
  {
    name: 'what transactions write that began before others ended is not gone on from',
    file: 'packages/indexing/derive-onward.ts',
    find: ' or record.xmin = any($3::text[]::xid8[]::xid[])',
    replace: ' or $3::text[] is null',
    killedBy: pg('open-transactions', 'before others ended'),
  },
]
