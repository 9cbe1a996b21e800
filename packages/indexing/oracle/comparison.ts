/**
 * One network, two indexes. The official indexer is fed by the PDS as things happen, strictly one event after the
 * other. Ours is fed afterwards from a recording of the same frames. The rows of both are read at the same points of
 * the history.
 */
import { DatabasePool } from '@sluice/database/pool.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import type { PublishedLabel } from '@sluice/sandbox/labeler.ts'
import { NetworkRecording } from '@sluice/sandbox/network-recording.ts'
import { startNetwork, type Network } from '@sluice/sandbox/network.ts'
import { startOfficialAppView, type OfficialAppView } from '@sluice/sandbox/official-appview.ts'
import { applyLabels } from '../apply-labels.ts'
import type { Refused } from '../prepare.ts'
import { Both } from './allowance.ts'
import { lookUpHandles } from './beside.ts'
import { Feeder, type OfficialFailure } from './feeder.ts'
import { recordedEvents } from './recorded-events.ts'
import { Tables } from './tables.ts'

export interface ComparisonOptions {
  seed: number
  /** An empty database, for the official AppView and the labeler. */
  officialUrl: string
  /** A database with our schema. */
  ourUrl: string
  redisUrl: string
}

export interface Compared {
  /** Both databases at each stage. */
  stages: Both[]
  /** Records that our indexer refused, and versions that the official one could not handle. */
  refused: Refused[]
  failed: OfficialFailure[]
  /** The events that our indexer was fed, and in how many batches. */
  events: StreamEvent[]
  batches: number
  /** Events that our indexer was not fed, because the official indexer itself failed at them. */
  left: StreamEvent[]
}

/** An action on our database after so many frames. */
interface Mark {
  frame: number
  act(feeder: Feeder): Promise<void>
}

const MUTE = `insert into thread_mute ("rootUri", "mutedByDid", "createdAt") values ($1, $2, $3) on conflict do nothing`

const PRIVATE = [
  ...['label', 'mute', 'thread_mute'].map((table) => ({
    read: `select coalesce(jsonb_agg(t), '[]')::text as rows from "${table}" t`,
    copy: `insert into "${table}" select * from jsonb_populate_recordset(null::bsky."${table}", $1) on conflict do nothing`,
  })),
  {
    read: `select coalesce(jsonb_agg(t), '[]')::text as rows from record t where tags is not null`,
    copy: `update record set tags = theirs.tags from jsonb_populate_recordset(null::bsky.record, $1) theirs where theirs.uri = record.uri`,
  },
  {
    read: `select coalesce(jsonb_agg(t), '[]')::text as rows from actor t`,
    copy: `update actor set handle = theirs.handle, "trustedVerifier" = theirs."trustedVerifier"
           from jsonb_populate_recordset(null::bsky.actor, $1) theirs where theirs.did = actor.did`,
  },
]

export class Comparison implements AsyncDisposable {
  readonly network: Network
  readonly appview: OfficialAppView
  readonly official: DatabasePool
  readonly ours: DatabasePool
  readonly #seed: number
  readonly #recording: NetworkRecording
  readonly #marks: Mark[] = []
  readonly #stages: Both[] = []
  readonly #stack: AsyncDisposableStack

  private constructor(parts: Pick<Comparison, 'network' | 'appview' | 'official' | 'ours'>, rest: Rest) {
    this.network = parts.network
    this.appview = parts.appview
    this.official = parts.official
    this.ours = parts.ours
    this.#seed = rest.seed
    this.#recording = rest.recording
    this.#stack = rest.stack
  }

  /** Starts the network and the AppView. From now on everything is recorded. */
  static async start({ seed, officialUrl, ourUrl, redisUrl }: ComparisonOptions): Promise<Comparison> {
    await using stack = new AsyncDisposableStack()
    const network = stack.use(await startNetwork({ labelerDatabaseUrl: officialUrl }))
    const labelers = [network.labeler.did]
    const appview = stack.use(await startOfficialAppView(network, { postgresUrl: officialUrl, redisUrl, labelers }))
    const official = stack.use(new DatabasePool({ url: officialUrl, schema: 'bsky', size: 4, role: 'oracle' }))
    const ours = stack.use(new DatabasePool({ url: ourUrl, schema: 'bsky', size: 4, role: 'oracle' }))
    const recording = stack.use(await NetworkRecording.start(network))
    return new Comparison({ network, appview, official, ours }, { seed, recording, stack: stack.move() })
  }

  /** Resolves when the official AppView has indexed everything so far, and the recording has it. */
  async settled(): Promise<void> {
    await Promise.all([this.appview.caughtUp(), this.#recording.caughtUp()])
  }

  /** Marks a stage: the rows of both databases at this moment will be compared. */
  async stage(): Promise<void> {
    await this.settled()
    const theirs = await Tables.read(this.official)
    const handles = await lookUpHandles(
      this.network,
      theirs.all('actor_sync').map(({ did }) => String(did)),
    )
    this.#mark(async (feeder) => {
      await feeder.settle(handles)
      const { happened } = feeder
      this.#stages.push(new Both(theirs, await Tables.read(this.ours), happened.copy()))
    })
  }

  /** Mutes the thread of `uri` for `did`, in both databases. */
  async muteThread(did: string, uri: string): Promise<void> {
    await this.settled()
    const row = [uri, did, new Date().toISOString()]
    await this.official.query(MUTE, row)
    this.#mark(async ({ happened }) => {
      await this.ours.query(MUTE, row)
      happened.muted.add(`${did} ${uri}`)
    })
  }

  /**
   * Copies to our database what only the AppView's own programs write (labels, mutes, tags, verifiers, handles set by
   * hand), as it is now.
   */
  async copyPrivate(): Promise<void> {
    await this.settled()
    const tables = await Promise.all(
      PRIVATE.map(async ({ copy, read }) => {
        const { rows } = await this.official.query<{ rows: string }>(read)
        return { copy, rows: rows[0]!.rows }
      }),
    )
    this.#mark(async () => {
      for (const { copy, rows } of tables) await this.ours.query(copy, [rows])
    })
  }

  /** Ends the recording with a last stage, then feeds our index from it. */
  async finish(labels: readonly PublishedLabel[]): Promise<Compared> {
    await this.stage()
    const failed = this.appview.errors.map(failureOf)
    const feeder = new Feeder(this.ours, this.#seed, failed)
    let at = 0
    for (const mark of this.#marks) {
      await feeder.apply(recordedEvents(this.#recording.frames.slice(at, mark.frame)))
      await mark.act(feeder)
      at = mark.frame
    }
    // The official indexer writes no labels; in production another program does.
    const events = labels.map((label) => ({ type: 'label' as const, label }))
    for (const db of [this.ours, this.official]) await applyLabels(db, events)
    const { refused, batches, left } = feeder
    return { stages: this.#stages, refused, failed, events: feeder.events, batches, left }
  }

  #mark(act: Mark['act']): void {
    this.#marks.push({ frame: this.#recording.frames.length, act })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync()
  }
}

interface Rest {
  seed: number
  recording: NetworkRecording
  stack: AsyncDisposableStack
}

/**
 * Classifies an error of the official indexer.
 * @throws the error itself, if it is none of the known ones
 */
function failureOf(error: Error): OfficialFailure {
  const { cause, event } = error as Error & { cause?: Error; event?: { uri?: { toString(): string }; rev?: string } }
  const reason = reasonOf(cause)
  if (!reason || !event?.uri || !event.rev) throw error
  return { uri: event.uri.toString(), rev: event.rev, reason }
}

function reasonOf(cause: Error | undefined): OfficialFailure['reason'] | undefined {
  if (cause?.name === 'LexValidationError') return 'invalid'
  if (cause?.message.startsWith('Creator ')) return 'wrong owner'
  if (cause?.message.includes('does not have a DID hostname')) return 'named by handle'
  if (cause?.message === 'syntax error at or near ")"') return 'empty insert'
  if (cause?.message.startsWith('Record update failed: removed from index')) return 'edited into a duplicate'
  return cause?.message.includes('0x00') || cause?.message.includes('Unicode escape') ? 'nul' : undefined
}
