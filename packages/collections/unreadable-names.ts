/**
 * Refuses records that refer to another record by a URI from which the AppView cannot take the DID.
 *
 * The lexicons accept two kinds of such a URI. Its authority may be a handle (`at://alice.test/…`). Or it may be a DID
 * that the AppView's parser rejects: `AtUri` of npm `@atproto/syntax` accepts no DID with `_`, and none with both `.`
 * and `%`. The AppView's readers call `uriToDid` on these references, and that call throws. Then not only this record
 * fails but every page that would show it, for example the timeline of each follower.
 *
 * Refusing the record loses nothing. Records are stored under DIDs that can be resolved, so a reference of these kinds
 * never finds its record.
 */
import { didOfUri } from '@sluice/events/stream-event.ts'
import type { Refusal } from './record.ts'

const READABLE_DID = /^did:(?:[a-z0-9:%-]+|[a-z0-9.:-]+)$/i

/**
 * Refuses a record when any of the URIs that it names has a handle, or a DID that the AppView cannot read, for its
 * authority.
 */
export function refuseUnreadable(...named: readonly (string | undefined)[]): Refusal | undefined {
  const unreadable = named.find((uri) => uri !== undefined && !READABLE_DID.test(didOfUri(uri)))
  return unreadable === undefined
    ? undefined
    : { reason: 'invalid-record', detail: `it names ${unreadable}, not by a DID that the AppView can read` }
}
