/** How many parts of a step run side by side. */

/** The most jobs: each is a connection, and a build has parallel workers of its own. */
export const JOBS_MAX = 64
