/**
 * The queue of repositories to fetch: the names of its parts, for whoever asks for repositories, fetches them, or looks on.
 *
 * | key                        | what                                                                                             |
 * |----------------------------|--------------------------------------------------------------------------------------------------|
 * | `<stream>`                 | entries that enumeration and the live stream ask for                                               |
 * | `<stream>_priority`        | entries that go first: what an operator asked for; same group, same consumers                       |
 * | `<stream>:retry`           | sorted set, of either stream: entries that are not due yet, score = when (Unix ms)                   |
 * | `<stream>:retry:dids`      | hash, of either stream: DID → the entry of the account in `<stream>:retry`                           |
 * | `<stream>_dlq`             | of either stream: repositories that were given up                                                   |
 * | `<stream>:host:<host>`     | hash: the host's limits as they stand, and what came of it so far                                     |
 * | `<stream>:slots:<host>`    | sorted set: requests to the host that are under way                                                  |
 * | `<stream>:hosts`           | sorted set: the hosts of 30 days, score = when a try for one of theirs last ended (Unix ms)           |
 * | `<stream>:under-way:<group>` | hash, of either stream: entry that may be killing its backfiller → deaths while it was under way     |
 * | `<stream>:sweep`           | why a sweep is wanted; absent when none is                                                            |
 * | `<stream>:swept`           | when the last one ended (ISO 8601)                                                                    |
 * | `<stream>:stuck:<host>`    | hash: the cursor on which the listing of a host fails, since when and how often; `<stream>:sweep:stuck:…` of sweeps |
 */

export const priorityStream = (stream: string): string => `${stream}_priority`

export const retryKey = (stream: string): string => `${stream}:retry`

export const retriesByDidKey = (stream: string): string => `${retryKey(stream)}:dids`

export const hostKey = (stream: string, host: string): string => `${stream}:host:${host}`

export const slotsKey = (stream: string, host: string): string => `${stream}:slots:${host}`

export const hostsKey = (stream: string): string => `${stream}:hosts`

export const underWayKey = ({ stream, group }: { stream: string; group: string }): string =>
  `${stream}:under-way:${group}`

export const sweepDemandKey = (stream: string): string => `${stream}:sweep`

export const sweptKey = (stream: string): string => `${stream}:swept`

/** Fields of a host's hash: its repositories that are done, and tries that failed. */
export const TALLY_FIELDS = { done: 'reposDone', failed: 'reposFailed' } as const
