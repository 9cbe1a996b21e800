/**
 * What must be true at the end: the simulator's own record of what it did, kept without a look at the index or at any code of ours that reads or
 * counts. Counters and notifications are counted anew from it.
 */

export interface TrueRecord {
  did: string
  collection: string
  cid: string
  /** Lexicon JSON. */
  record: Record<string, unknown>
}

export interface TrueLabel {
  cts: string
  neg: boolean
}

type Counts = Map<string, number>

export class Truth {
  /** By URI; living ones only. */
  readonly records = new Map<string, TrueRecord>()
  /** By `src uri val`. */
  readonly labels = new Map<string, TrueLabel>()
  /** By DID; undefined: active. */
  readonly statuses = new Map<string, string | undefined>()

  write(uri: string, record: TrueRecord): void {
    this.records.set(uri, record)
  }

  remove(uri: string): void {
    this.records.delete(uri)
  }

  /** The account is gone, with all it wrote. */
  removeAccount(did: string): void {
    for (const [uri, record] of this.records) if (record.did === did) this.records.delete(uri)
    this.statuses.set(did, 'deleted')
  }

  of(collection: string): [uri: string, record: TrueRecord][] {
    return [...this.records].filter(([, record]) => record.collection === collection)
  }

  /** Who says it of whom, once each, however often it was said: `creator subject`. */
  pairs(collection: string): Set<string> {
    return new Set(this.of(collection).map(([, { did, record }]) => `${did} ${subjectOf(record)}`))
  }

  /** `table.column` → key → count, zeros left out. */
  counters(): Record<string, Counts> {
    const posts = this.of('app.bsky.feed.post')
    const parents = posts.flatMap(
      ([, { record }]) => (record.reply as { parent: { uri: string } } | undefined)?.parent.uri ?? [],
    )
    const second = (collection: string): Counts => tally([...this.pairs(collection)].map((pair) => pair.split(' ')[1]!))
    return {
      'post_agg.likeCount': second('app.bsky.feed.like'),
      'post_agg.repostCount': second('app.bsky.feed.repost'),
      'post_agg.replyCount': tally(parents),
      'profile_agg.followersCount': second('app.bsky.graph.follow'),
      'profile_agg.followsCount': tally([...this.pairs('app.bsky.graph.follow')].map((pair) => pair.split(' ')[0]!)),
      'profile_agg.postsCount': tally(posts.map(([, { did }]) => did)),
    }
  }

  /** Lines `recipient uri` of replies to posts of others that live. Of other replies it depends on what the index has seen of the post who is told. */
  replies(): Set<string> {
    const lines = new Set<string>()
    for (const [uri, { did, record }] of this.of('app.bsky.feed.post')) {
      const { reply } = record as { reply?: { parent: { uri: string } } }
      const parent = reply && this.records.get(reply.parent.uri)
      if (parent && parent.did !== did) lines.add(`${parent.did} ${uri}`)
    }
    return lines
  }

  /** Lines `recipient reason author subject` of likes, reposts and follows, each once. */
  notifications(): Set<string> {
    const lines = new Set<string>()
    const tell = (collection: string, reason: string): void => {
      for (const pair of this.pairs(collection)) {
        const [author, subject] = pair.split(' ') as [string, string]
        const recipient = subject.startsWith('at://') ? subject.split('/')[2]! : subject
        // Who likes their own post tells nobody; who follows themselves does.
        if (recipient !== author || reason === 'follow')
          lines.add(`${recipient} ${reason} ${author} ${reason === 'follow' ? '' : subject}`)
      }
    }
    tell('app.bsky.feed.like', 'like')
    tell('app.bsky.feed.repost', 'repost')
    tell('app.bsky.graph.follow', 'follow')
    return lines
  }
}

export function subjectOf(record: Record<string, unknown>): string {
  const subject = record.subject as string | { uri: string }
  return typeof subject === 'string' ? subject : subject.uri
}

function tally(keys: readonly string[]): Counts {
  const counts: Counts = new Map()
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1)
  return counts
}
