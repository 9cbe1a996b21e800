/**
 * What an index holds after some events, by the contract of the events alone (packages/events/stream-event.ts): the model that exports are
 * held against. Deliberately the plainest way there is.
 */
import type { StreamEvent } from '@sluice/events/stream-event.ts'

export interface ModelRepo {
  /** Path → what it holds. */
  records: Map<string, { cid: string; rev: string }>
  /** Path → rev of its deletion. */
  tombstones: Map<string, string>
  /** Of the newest resync: what is older is told by it. */
  watermark: string
  /** Of the newest whole commit or export. */
  rev: string
  commit: string
  /** Of the newest account event; absent: none was seen. */
  status?: string
  statusHost?: string
  /** How many range events were seen. */
  ranges: number
}

export class IndexModel {
  readonly repos = new Map<string, ModelRepo>()
  /** Entries applied. */
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

  /** Path → CID of what a DID holds. */
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
