/** The entries of `repo_backfill`: a repository that somebody should fetch. */

export interface BackfillEvent {
  did: string
  /** Where the repository was listed (no scheme): a PDS, or a relay. */
  host: string
  /** The head's revision as listed; empty when not known. */
  rev: string
  /** Hosting status as listed; absent means active. */
  status?: string
  active?: boolean
  /** Why it was requested. Absent: enumeration, as other producers write it. */
  reason?: BackfillReason
  /** How many tries failed in the class `failure` so far; set by the backfiller when it schedules a retry. */
  attempts?: number
  /** The class of the last failure; set with `attempts`. */
  failure?: string
  /** How many tries failed in each other class so far. Absent: none. */
  earlier?: Readonly<Record<string, number>>
  /** When it first failed in a class of failures that are tolerated for a limited time (Unix ms). */
  failingSince?: number
  /**
   * How many tries failed in all, of every class. It bounds the tries for a repository that its host may have made up.
   */
  failures?: number
}

/**
 * `listed`: by enumeration. `gap`: the chain of commits broke. `sync`: a `#sync` with newer data. `too-big`: a commit
 * whose operations were left out. `sweep`: a sweep found that the index lags behind. `requested`: by an operator.
 * `reactivated`: the account came back.
 */
export type BackfillReason = 'listed' | 'gap' | 'sync' | 'too-big' | 'sweep' | 'requested' | 'reactivated'
