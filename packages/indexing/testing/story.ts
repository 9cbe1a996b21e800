/**
 * Makes events one after the other, with as few words as possible. Each event is a second later than the one before.
 */
import { cidOf, formatCid } from '@sluice/atproto/cid.ts'
import { tidFromMicros } from '@sluice/events/tid.ts'
import { uriOf, type CreateEvent, type DeleteEvent, type JsonRecord } from '@sluice/events/stream-event.ts'

const MICROS = Date.parse('2026-06-01T00:00:00.000Z') * 1000

export interface Ref {
  uri: string
  cid: string
}

export class Story {
  #second = 0

  /** The account of that name. */
  did(name: string): string {
    return `did:plc:${name.padEnd(24, '2')}`
  }

  get now(): string {
    return new Date(MICROS / 1000 + this.#second * 1000).toISOString()
  }

  /** Writes a record of `name`'s account. Without `rkey` it is a new one. */
  put(name: string, collection: string, record: object, rkey?: string): CreateEvent {
    const commit = this.#commit(name)
    const full: JsonRecord = { $type: collection, createdAt: commit.time, ...record }
    const cid = cidOfText(`${commit.rev} ${JSON.stringify(full)}`)
    return { type: 'create', ...commit, collection, rkey: rkey ?? commit.rev, cid, record: full }
  }

  delete(event: CreateEvent): DeleteEvent {
    const { did, collection, rkey } = event
    return { type: 'delete', ...this.#commit(did.slice('did:plc:'.length)), collection, rkey }
  }

  post(name: string, text: string, more: object = {}): CreateEvent {
    return this.put(name, 'app.bsky.feed.post', { text, ...more })
  }

  /** Without `rkey` it is a new post. */
  reply(name: string, parent: CreateEvent, more: object = {}, rkey?: string): CreateEvent {
    const { reply } = parent.record as { reply?: { root: Ref } }
    const refs = { root: reply?.root ?? ref(parent), parent: ref(parent) }
    return this.put(name, 'app.bsky.feed.post', { text: 'a reply', reply: refs, ...more }, rkey)
  }

  quote(name: string, quoted: CreateEvent): CreateEvent {
    return this.post(name, 'a quote', { embed: { $type: 'app.bsky.embed.record', record: ref(quoted) } })
  }

  like(name: string, subject: CreateEvent, more: object = {}): CreateEvent {
    return this.put(name, 'app.bsky.feed.like', { subject: ref(subject), ...more })
  }

  repost(name: string, subject: CreateEvent, more: object = {}): CreateEvent {
    return this.put(name, 'app.bsky.feed.repost', { subject: ref(subject), ...more })
  }

  follow(name: string, other: string): CreateEvent {
    return this.put(name, 'app.bsky.graph.follow', { subject: this.did(other) })
  }

  #commit(name: string) {
    this.#second++
    const rev = tidFromMicros(MICROS + this.#second * 1_000_000, 1)
    return { seq: this.#second, time: this.now, did: this.did(name), commit: cidOfText(rev), rev }
  }
}

export function ref(event: CreateEvent): Ref {
  return { uri: uriOf(event), cid: event.cid }
}

export function cidOfText(text: string): string {
  return formatCid(cidOf(Buffer.from(text)))
}
