/**
 * Records that name others in a way the AppView throws at, where it asks a URI for its DID.
 *
 * A URI may have a handle for its authority (`at://alice.test/…`), or a DID that the AppView's parser does not know (`AtUri` of npm `@atproto/syntax`: none with `_`, nor with both `.`
 * and `%`), and the lexicons let both pass. The AppView's readers take the DID out of what these records name (`uriToDid`), which throws: not this one record fails but the page
 * that would show it, the timeline of each follower say. Nothing is lost by refusing it: records are stored under DIDs that can be resolved, so what is named so is never found.
 */
import { didOfUri } from '@sluice/events/stream-event.ts'
import type { Refusal } from './define.ts'

const READABLE_DID = /^did:(?:[a-z0-9:%-]+|[a-z0-9.:-]+)$/i

/** Refuses a record that names any of these URIs by handle, or by a DID that the AppView cannot read. */
export function refuseUnreadable(...named: readonly (string | undefined)[]): Refusal | undefined {
  const unreadable = named.find((uri) => uri !== undefined && !READABLE_DID.test(didOfUri(uri)))
  return unreadable === undefined
    ? undefined
    : { reason: 'invalid-record', detail: `it names ${unreadable}, not by a DID that the AppView can read` }
}
