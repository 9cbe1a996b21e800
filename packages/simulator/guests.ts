/**
 * Accounts of a real PDS that come and go, while its population writes: they join, write about what the population
 * writes, get other handles, are deactivated or taken down, come back, and are deleted for good.
 */
import { recordsOf } from '@sluice/sandbox/demo/comparison.ts'
import type { Network } from '@sluice/sandbox/network.ts'
import type { Account } from '@sluice/sandbox/pds.ts'
import type { Population } from '@sluice/sandbox/population.ts'
import type { Random } from '@sluice/sandbox/random.ts'

export interface Guest extends Account {
  number: number
  /** As the index has it; undefined: active. */
  status: 'deactivated' | 'takendown' | 'deleted' | undefined
  /** While it is away: what the PDS listed last, CIDs by AT URI. */
  held: ReadonlyMap<string, string>
  /** Records that it may delete. */
  written: { collection: string; rkey: string }[]
  handles: number
}

const KINDS = {
  like: 24,
  post: 20,
  follow: 14,
  reply: 14,
  remove: 12,
  profile: 8,
  activate: 8,
  restore: 6,
  rename: 5,
  join: 4,
  deactivate: 4,
  takeDown: 3,
  delete: 2,
} as const
type Kind = keyof typeof KINDS

/** So many at the same time, the deleted left out. */
const LIVING_MAX = 25
/** Of the population's records so many, the newest, may be answered. */
const RECENT = 600

export class Guests {
  readonly all: Guest[] = []
  /** How often what was done. */
  readonly done = new Map<Kind, number>()
  readonly #network: Network
  readonly #population: Population
  readonly #random: Random

  constructor(network: Network, population: Population, random: Random) {
    this.#network = network
    this.#population = population
    this.#random = random
  }

  get active(): Guest[] {
    return this.all.filter(({ status }) => status === undefined)
  }

  /** By DID, what those held that are away. */
  get away(): Map<string, ReadonlyMap<string, string>> {
    const away = this.all.filter(({ status }) => status === 'deactivated' || status === 'takendown')
    return new Map(away.map(({ did, held }) => [did, held]))
  }

  /** Somebody does something, unless the dice ask for what nobody can do now. @throws Error when the PDS refuses it */
  async next(): Promise<void> {
    const kind = this.#random.weighted(KINDS)
    if (kind === 'join') {
      if (this.active.length + this.away.size >= LIVING_MAX) return
      await this.#join()
    } else {
      const from = kind === 'activate' ? 'deactivated' : kind === 'restore' ? 'takendown' : undefined
      const able = this.all.filter(({ status }) => status === from)
      if (able.length === 0) return
      const guest = this.#random.pick(able)
      if ((await this.#write(kind, guest)) === undefined) await this.#change(kind, guest)
    }
    this.done.set(kind, (this.done.get(kind) ?? 0) + 1)
  }

  async #join(): Promise<void> {
    const number = this.all.length + 1
    const account = await this.#network.pds.createAccount(`guest-${number}`)
    this.all.push({ ...account, number, status: undefined, held: new Map(), written: [], handles: 0 })
  }

  /** Undefined: that is nothing to write. */
  async #write(kind: Kind, guest: Guest): Promise<object | undefined> {
    const repo = guest.did
    const { agent, written } = guest
    const create = async (collection: string, fields: object): Promise<object> => {
      const record = { $type: collection, ...fields, createdAt: new Date().toISOString() }
      const { data } = await agent.com.atproto.repo.createRecord({ repo, collection, record })
      written.push({ collection, rkey: data.uri.split('/').at(-1)! })
      return data
    }
    const { uri, cid, root } = this.#somePost()
    switch (kind) {
      case 'post':
        return create('app.bsky.feed.post', { text: `of ${guest.handle}` })
      case 'reply':
        return create('app.bsky.feed.post', { text: 'an answer', reply: { root, parent: { uri, cid } } })
      case 'like':
        return create('app.bsky.feed.like', { subject: { uri, cid } })
      case 'follow': {
        const subject = this.#random.pick([...this.#population.people, ...this.active]).did
        return create('app.bsky.graph.follow', { subject })
      }
      case 'profile': {
        const record = { $type: PROFILE, displayName: `guest at ${Date.now()}` }
        return agent.com.atproto.repo.putRecord({ repo, collection: PROFILE, rkey: 'self', record })
      }
      case 'remove': {
        const [record] = written.splice(this.#random.below(Math.max(1, written.length)), 1)
        return record ? agent.com.atproto.repo.deleteRecord({ repo, ...record }) : {}
      }
      default:
        return undefined
    }
  }

  async #change(kind: Kind, guest: Guest): Promise<void> {
    const { pds } = this.#network
    const { did, agent } = guest
    switch (kind) {
      case 'rename':
        guest.handle = `guest-${guest.number}-${++guest.handles}.test`
        await agent.com.atproto.identity.updateHandle({ handle: guest.handle })
        return
      case 'deactivate':
        guest.held = await recordsOf(pds.url, did)
        await agent.com.atproto.server.deactivateAccount({})
        guest.status = 'deactivated'
        return
      case 'takeDown':
        guest.held = await recordsOf(pds.url, did)
        await pds.takeDown(did, true)
        guest.status = 'takendown'
        return
      case 'activate':
        await agent.com.atproto.server.activateAccount()
        guest.status = undefined
        return
      case 'restore':
        await pds.takeDown(did, false)
        guest.status = undefined
        return
      case 'delete':
        await pds.deleteAccount(did)
        guest.status = 'deleted'
        return
      default:
        throw new Error(`nothing is known of ${kind}`)
    }
  }

  #somePost(): { uri: string; cid: string; root: unknown } {
    const posts = [...this.#population.records].filter(([, { collection }]) => collection === 'app.bsky.feed.post')
    const [uri, { cid, record }] = this.#random.pick(posts.slice(-RECENT))
    const reply = record.reply as { root: unknown } | undefined
    return { uri, cid, root: reply?.root ?? { uri, cid } }
  }
}

const PROFILE = 'app.bsky.actor.profile'
