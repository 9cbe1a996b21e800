/** Who closes a thread or a post to whom: gates, and whom they let in. */
import type { Write } from '@sluice/atproto/testing/repo.ts'
import type { Random } from '@sluice/sandbox/random.ts'
import type { Fields } from './contents.ts'
import { Recent } from './recent.ts'
import { mentionedIn } from './true-verdicts.ts'
import { keyOfUri, type TrueRecord, type Truth } from './truth.ts'

const POST = 'app.bsky.feed.post'
const LIST = 'app.bsky.graph.list'
const THREADGATE = 'app.bsky.feed.threadgate'
const POSTGATE = 'app.bsky.feed.postgate'
const GATED = 'gated'

export class Gatekeeper {
  readonly #random: Random
  readonly #truth: Truth
  readonly #recent: Recent
  /** By DID, posts whose gates let it in. */
  readonly #invitations: Recent
  /** Items by list, follows by who follows (`by <did>`) and who is followed (`of <did>`). */
  readonly #relations: Recent

  /** @param recent what people talk about, by collection and (`… of <did>`) by author */
  constructor(random: Random, truth: Truth, recent: Recent) {
    const lives = (uri: string): boolean => truth.records.has(uri)
    this.#random = random
    this.#truth = truth
    this.#recent = recent
    this.#invitations = new Recent(random, lives)
    this.#relations = new Recent(random, lives)
  }

  written(uri: string, { did: author, collection, record }: Pick<TrueRecord, 'did' | 'collection' | 'record'>): void {
    if (collection === 'app.bsky.graph.listitem') this.#relations.add(record.list as string, uri)
    if (collection === 'app.bsky.graph.follow') {
      this.#relations.add(`by ${author}`, uri)
      this.#relations.add(`of ${record.subject as string}`, uri)
    }
    const { reply, hiddenReplies = [] } = record as { reply?: { root: { uri: string } }; hiddenReplies?: string[] }
    if (reply) this.#recent.add(`in ${reply.root.uri}`, uri)
    if (collection !== THREADGATE && collection !== POSTGATE) return
    const post = record.post as string
    for (const one of [post, ...hiddenReplies]) this.#recent.add(GATED, one)
    for (const did of this.#invited(author, record)) this.#invitations.add(did, post)
  }

  /** A post that has a gate, or is hidden by one. */
  gated(): string | undefined {
    return this.#recent.pick(GATED)
  }

  /** A post that this account may answer, and not everybody. */
  invitation(did: string): string | undefined {
    return this.#invitations.pick(did)
  }

  /** Closes one of the account's own posts. The record says the time from which it counts. */
  gate(did: string, kind: 'threadgate' | 'postgate', createdAt: string): Write | undefined {
    const collection = `app.bsky.feed.${kind}`
    const isOpen = (uri: string): boolean => !this.#truth.records.has(`at://${did}/${collection}/${keyOfUri(uri)}`)
    const isAnswered = (uri: string): boolean => isOpen(uri) && this.#recent.pick(`in ${uri}`) !== undefined
    const answered = this.#random.chance(0.5) ? this.#recent.pick(`${POST} of ${did}`, isAnswered) : undefined
    const post = answered ?? this.#recent.pick(`${POST} of ${did}`, isOpen)
    if (post === undefined) return undefined
    return { path: `${collection}/${keyOfUri(post)}`, record: this.rules(did, { $type: collection, post, createdAt }) }
  }

  /** The same gate with other rules. */
  rules(did: string, { $type, post, createdAt }: { $type: string; post: unknown; createdAt: string }): Fields {
    const random = this.#random
    const gate = { $type, post, createdAt }
    if ($type === POSTGATE)
      return random.chance(0.2) ? gate : { ...gate, embeddingRules: [{ $type: `${POSTGATE}#disableRule` }] }
    const list = this.#recent.pick(`${LIST} of ${did}`, (uri) => this.#relations.pick(uri) !== undefined)
    const rules: { $type: string; list?: string }[] = [
      { $type: `${THREADGATE}#mentionRule` },
      { $type: `${THREADGATE}#followerRule` },
      { $type: `${THREADGATE}#followingRule` },
      ...(list === undefined ? [] : [{ $type: `${THREADGATE}#listRule`, list }]),
    ]
    const hidden = random.chance(0.7) ? this.#recent.pick(`in ${String(post)}`) : undefined
    return {
      ...gate,
      ...(random.chance(hidden === undefined ? 0.9 : 0.5) && {
        allow: rules.filter((rule) => random.chance(this.#suits(rule, post) ? 0.8 : 0.3)),
      }),
      ...(hidden !== undefined && { hiddenReplies: [hidden] }),
    }
  }

  /** Whether a rule names somebody. */
  #suits({ $type, list }: { $type: string; list?: string }, post: unknown): boolean {
    if (list !== undefined) return true
    const { record = {} } = this.#truth.records.get(post as string) ?? {}
    return $type.endsWith('#mentionRule') && mentionedIn(record).length > 0
  }

  /** Some of the accounts that a gate lets in. */
  #invited(owner: string, gate: Record<string, unknown>): string[] {
    const { post, allow = [] } = gate as { post: string; allow?: { $type: string; list?: string }[] }
    return allow.flatMap(({ $type, list }) => {
      switch ($type.split('#')[1]) {
        case 'listRule':
          return this.#some(list!, ({ record }) => record.subject as string)
        case 'followerRule':
          return this.#some(`of ${owner}`, ({ did }) => did)
        case 'followingRule':
          return this.#some(`by ${owner}`, ({ record }) => record.subject as string)
        default:
          return mentionedIn(this.#truth.records.get(post)?.record ?? {})
      }
    })
  }

  #some(relation: string, who: (version: TrueRecord) => string): string[] {
    return Array.from({ length: 3 }).flatMap(() => {
      const uri = this.#relations.pick(relation)
      return uri === undefined ? [] : who(this.#truth.records.get(uri)!)
    })
  }
}
