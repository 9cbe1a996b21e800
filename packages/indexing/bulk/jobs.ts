/** How many parts of a step run side by side. */

/** The most jobs. Each job is a connection, and an index build has parallel workers of its own. */
export const JOBS_MAX = 64
