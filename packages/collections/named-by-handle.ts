/**
 * Records that name others by handle (`at://alice.test/…`), where the AppView asks a URI for its DID.
 *
 * A URI may have a handle for its authority, and the lexicons let it pass. The AppView's readers take the DID out of what a post or a repost names
 * (`uriToDid`), which throws on a handle: not this one record fails but the page that would show it, the timeline of each follower say. Nothing is lost by
 * refusing it: records are stored under DIDs, so what is named by handle is never found.
 */
import { didOfUri } from '@sluice/events/stream-event.ts'
import type { Refusal, StrongRef } from './define.ts'

/** Refuses a record that names any of these by handle. */
export function refuseHandles(...named: readonly (StrongRef | undefined)[]): Refusal | undefined {
  const byHandle = named.find((ref) => ref && !didOfUri(ref.uri).startsWith('did:'))
  return byHandle && { reason: 'invalid-record', detail: `it names ${byHandle.uri} by handle, not by DID` }
}
