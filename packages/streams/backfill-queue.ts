/**
 * The queue of repositories to fetch: the names of its parts, for programs that request repositories, fetch them, or
 * inspect the queue. "Both streams" are `<stream>` and `<stream>_priority`, each with a key of its own.
 *
 * | key                          | what it holds                                                                                       |
 * |------------------------------|-----------------------------------------------------------------------------------------------------|
 * | `<stream>`                   | entries that enumeration and the live stream ask for                                                |
 * | `<stream>_priority`          | entries that go first: what an operator asked for; same group, same consumers                       |
 * | `<stream>:retry`             | sorted set, for both streams: entries that are not due yet, score = when they are (Unix ms)         |
 * | `<stream>:retry:dids`        | hash, for both streams: DID → the entry of the account in `<stream>:retry`                          |
 * | `<stream>_dlq`               | for both streams: repositories that were given up                                                   |
 * | `<stream>:letters:<owner>`   | set, for both streams: accounts whose repositories on hosts of one owner were given up              |
 * | `<stream>:set-aside`         | hash, for both streams: host and reason → repositories that were given up without a dead letter     |
 * | `<stream>:made-up`           | hash: part of all owners → did:webs that only a host lists, and whose status was noted; `salt`      |
 * | `<stream>:host:<host>`       | hash: the present limits of the host, and the results of its fetches so far                         |
 * | `<stream>:slots:<host>`      | sorted set: requests to the host that are under way                                                 |
 * | `<stream>:hosts`             | sorted set: the hosts of 30 days, score = when a try for a repository of theirs last ended (Unix ms) |
 * | `<stream>:under-way:<group>` | hash, for both streams: entry that may be killing its backfiller → deaths while it was under way    |
 * | `<stream>:sweep`             | why a sweep is wanted; absent when none is                                                          |
 * | `<stream>:swept`             | when the last sweep ended (ISO 8601)                                                                |
 * | `<stream>:stuck:<host>`      | hash: the cursor at which the listing of a host fails, since when and how often; for sweeps `<stream>:sweep:stuck:…` |
 */

export const priorityStream = (stream: string): string => `${stream}_priority`

export const retryKey = (stream: string): string => `${stream}:retry`

export const retriesByDidKey = (stream: string): string => `${retryKey(stream)}:dids`

export const lettersOfKey = (stream: string, owner: string): string => `${stream}:letters:${owner}`

export const setAsideKey = (stream: string): string => `${stream}:set-aside`

/** The field of `<stream>:set-aside` for the hosts and reasons that have none of their own. */
export const SET_ASIDE_OTHERS = 'other hosts'

export const madeUpKey = (stream: string): string => `${stream}:made-up`

export const hostKey = (stream: string, host: string): string => `${stream}:host:${host}`

export const slotsKey = (stream: string, host: string): string => `${stream}:slots:${host}`

export const hostsKey = (stream: string): string => `${stream}:hosts`

export const underWayKey = ({ stream, group }: { stream: string; group: string }): string =>
  `${stream}:under-way:${group}`

export const sweepDemandKey = (stream: string): string => `${stream}:sweep`

export const sweptKey = (stream: string): string => `${stream}:swept`

/** Fields of a host's hash: how many of its repositories are done, and how many tries failed. */
export const TALLY_FIELDS = { done: 'reposDone', failed: 'reposFailed' } as const
