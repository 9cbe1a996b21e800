/**
 * What an index holds after some events, by nothing but the contract of the events (packages/events/stream-event.ts).
 * Tests compare exports with this model. It is deliberately the simplest possible implementation.
 */
import type { StreamEvent } from '@sluice/events/stream-event.ts'

export interface ModelRepo {
  /** Path → the record that the path holds. */
  records: Map<string, { cid: string; rev: string }>
  /** Path → the rev of the record's deletion. */
  tombstones: Map<string, string>
  /** The rev of the newest resync. An older version of a record does not come in any more. */
  watermark: string
  /** The rev of the newest whole commit or export; `commit` is its CID. */
  rev: string
  commit: string
  /** The status of the last account event. Absent: there was none, or the account is active. */
  status?: string
  statusHost?: string
  /** How many range events were seen. */
  ranges: number
}

export class IndexModel {
  readonly repos = new Map<string, ModelRepo>()
  /** How many events were applied. */
  events = 0

  repo(did: string): ModelRepo {
    let repo = this.repos.get(did)
    if (repo === undefined) {
      repo = { records: new Map(), tombstones: new Map(), watermark: '', rev: '', commit: '', ranges: 0 }
      this.repos.set(did, repo)
    }
    return repo
  }

  apply(event: StreamEvent): void {
    this.events++
    const repo = this.repo(event.did)
    switch (event.type) {
      case 'create':
      case 'update':
      case 'delete': {
        const path = `${event.collection}/${event.rkey}`
        const known = repo.records.get(path)?.rev ?? repo.tombstones.get(path) ?? ''
        if (event.rev <= known) return
        if (event.type === 'delete') {
          repo.records.delete(path)
          repo.tombstones.set(path, event.rev)
        } else if (event.rev >= repo.watermark) {
          repo.tombstones.delete(path)
          repo.records.set(path, { cid: event.cid, rev: event.rev })
        }
        return
      }
      case 'repo':
        if (event.range === undefined) {
          if (event.rev > repo.rev) Object.assign(repo, { rev: event.rev, commit: event.commit })
          return
        }
        applyRange(repo, event.rev, event.range, new Set(event.keys))
        return
      case 'account':
        Object.assign(repo, { status: event.active ? undefined : event.status, statusHost: event.host })
        return
      case 'identity':
        return
    }
  }

  /** Path → CID of the records that a DID holds. */
  contents(did: string): Map<string, string> {
    return new Map([...this.repo(did).records].map(([path, { cid }]) => [path, cid]))
  }
}

function applyRange(repo: ModelRepo, rev: string, [from, to]: [string, string], keys: ReadonlySet<string>): void {
  repo.ranges++
  if (rev > repo.watermark) repo.watermark = rev
  for (const [path, held] of repo.records) {
    const isWithin = path >= from && (to === '' || path < to)
    if (isWithin && !keys.has(path) && held.rev <= rev) repo.records.delete(path)
  }
}
