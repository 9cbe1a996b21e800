/**
 * Gives each name that is looked up places of its own, so that names that no name server answers hold up nothing else.
 * Must be imported before everything else: the thread pool takes its size when it is first used.
 *
 * Node looks names up with getaddrinfo, at most as many at once as half of its threads: two of four. A name that nobody
 * answers, such as that of a container that is stopped, holds its place for 10 s and more, while a daemon has 3 s to
 * answer. So two such names in SLUICE_DAEMONS made every living daemon look silent. c-ares needs no threads, but leaves
 * out search domains, by which pods find each other. What was found is printed at once; the process ends only with its
 * last look-up, since nothing can break one off.
 */

/** While something is silent, `status --watch 1` asks again each 5 s, and look-ups of before still hold places. */
const PLACES = 4
/** Those of Redis and PostgreSQL. */
const STORES = 2
/** Libuv makes no more threads. */
const THREADS_MAX = 1_024

const names = (process.env.SLUICE_DAEMONS ?? '').split(',').length + STORES
// Who has set it keeps it. Threads cost 8 MB of address space each, and next to no memory.
process.env.UV_THREADPOOL_SIZE ??= String(Math.min(2 * PLACES * names, THREADS_MAX))
