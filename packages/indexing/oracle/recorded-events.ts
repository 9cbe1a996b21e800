/**
 * Turns recorded frames into events, as our daemons do: each frame is checked as the ingester checks it, and each event
 * goes through the JSON of its Redis entry.
 *
 * A `#sync` becomes an event of the repository's head; in production a resync brings that event.
 */
import { readCar } from '@sluice/atproto/car.ts'
import { formatCid } from '@sluice/atproto/cid.ts'
import { eventsOfCommit } from '@sluice/atproto/commit-events.ts'
import { checkCommit } from '@sluice/atproto/commit.ts'
import type { CommitFrame, Frame } from '@sluice/atproto/frame.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'

/** @throws Error when a frame is not as a PDS sends it, or an op is refused: nothing may be left out of a comparison */
export function recordedEvents(frames: readonly Frame[]): StreamEvent[] {
  return frames.flatMap(eventsOfFrame).map((event) => streamEventCodec.decode(streamEventCodec.encode(event)))
}

function eventsOfFrame(frame: Frame): StreamEvent[] {
  switch (frame.type) {
    case 'commit':
      return commitEvents(frame)
    case 'sync': {
      const { time, did, rev } = frame
      return [{ type: 'repo', time, did, rev, commit: formatCid(readCar(frame.blocks).root) }]
    }
    case 'account':
    case 'identity':
      return [frame]
    default:
      throw new Error(`the PDS sent ${JSON.stringify(frame)}`)
  }
}

function commitEvents(frame: CommitFrame): StreamEvent[] {
  const check = checkCommit(frame, undefined, { level: 'proof', nowMs: Date.now() })
  if (check.kind === 'refused') throw new Error(`commit ${frame.rev} of ${frame.did}: ${check.reason} ${check.detail}`)
  const { events, refused } = eventsOfCommit(frame, check.blocks, { wanted: () => true, now: frame.time })
  if (refused.length > 0) throw new Error(`commit ${frame.rev} of ${frame.did}: ${JSON.stringify(refused)}`)
  return events
}
