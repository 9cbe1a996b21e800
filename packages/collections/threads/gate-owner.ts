/**
 * Refuses a gate whose author or record key is not that of its post. Only the author of a post may gate it, and a post
 * has one gate of each kind.
 */
import { didOfUri, rkeyOfUri } from '@sluice/events/stream-event.ts'
import type { Entry, Refusal } from '../record.ts'

export function gateOwnsPost({ did, rkey, record }: Entry<{ post: string }>): Refusal | undefined {
  const { post } = record
  if (didOfUri(post) === did && rkeyOfUri(post) === rkey) return undefined
  return { reason: 'wrong-owner', detail: `the gate is not of the author and record key of its post ${post}` }
}
