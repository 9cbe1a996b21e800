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
  /** How often it failed so far; set by the backfiller when it schedules a retry. */
  attempts?: number
  /** Of which class those failures were; set with `attempts`. */
  failure?: string
  /** When the first of them was (Unix ms), where they are borne with for so long. */
  failingSince?: number
  /** How often it failed in all, of whatever class: of one that its host may have made up. */
  failures?: number
}

/**
 * `listed`: enumeration. `gap`: the chain of commits broke. `sync`: a `#sync` with newer data. `too-big`: a commit whose
 * operations were left out. `sweep`: anti-entropy found it behind. `requested`: an operator. `reactivated`: the account came back.
 */
export type BackfillReason = 'listed' | 'gap' | 'sync' | 'too-big' | 'sweep' | 'requested' | 'reactivated'
