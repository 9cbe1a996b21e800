/**
 * The seeds of the official AppView's own tests, as npm `@atproto/dev-env` ships them, on our network.
 *
 * The package contains neither its pictures nor one of its seeds (`likes`). So pictures are generated here, and likes
 * are seeded in the same way as there.
 */
import {
  authorFeedSeed,
  basicSeed,
  EXAMPLE_LABELER,
  followsSeed,
  quotesSeed,
  RecordRef,
  repostsSeed,
  SeedClient,
  seedThreadV2,
  TestPds as DevPds,
  type TestNetwork,
  usersBulkSeed,
  verificationsSeed,
} from '@atproto/dev-env'
import type { Network } from './network.ts'
import type { OfficialAppView } from './official-appview.ts'
import { png } from './png.ts'

type Client = OfficialSeedClient
type Seed = SeedClient<TestNetwork>

/** How many of its hundred users the seed of bulk users makes. */
const BULK_USERS = 24

/** By name; each expects a network on which nothing has happened. */
export const OFFICIAL_SEEDS: Readonly<Record<string, (client: Client) => Promise<unknown>>> = {
  basic: (client) => basicSeed(client),
  likes: likesSeed,
  'author feed': (client) => authorFeedSeed(client),
  quotes: (client) => quotesSeed(client),
  reposts: (client) => repostsSeed(client),
  follows: (client) => followsSeed(client),
  'users bulk': (client) => usersBulkSeed(client, BULK_USERS),
  verifications: (client) => verificationsSeed(client),
  threads: threadSeeds,
}

/**
 * Writes as the original seed client does, with generated pictures. Mutes are private data and no records; they are
 * collected, so that the caller can write them to the databases.
 */
export class OfficialSeedClient extends SeedClient<TestNetwork> {
  readonly muted: { by: string; subject: string }[] = []

  constructor(network: Network, appview: OfficialAppView, processAll: () => Promise<void>) {
    const pds = new DevPds(network.pds.url, Number(new URL(network.pds.url).port), network.pds.server)
    const parts = { processAll, bsky: appview.program } as unknown as TestNetwork
    super(parts, pds.getAgent(), pds.getClient())
  }

  override async uploadFile(...[by, alt]: Parameters<Seed['uploadFile']>): ReturnType<Seed['uploadFile']> {
    const picture = png(6, 4, alt.length * 4_000)
    const options = { headers: this.getHeaders(by), encoding: 'image/png' }
    const { data } = await this.agent.com.atproto.repo.uploadBlob(picture, options)
    return { image: data.blob, alt }
  }

  override async createProfile(
    ...[by, displayName, description, selfLabels, joined, overrides]: Parameters<Seed['createProfile']>
  ): ReturnType<Seed['createProfile']> {
    const { image } = await this.uploadFile(by, 'a portrait', 'image/png')
    const record = {
      displayName,
      description,
      avatar: image,
      ...(selfLabels && {
        labels: { $type: 'com.atproto.label.defs#selfLabels' as const, values: selfLabels.map((val) => ({ val })) },
      }),
      ...(joined && { joinedViaStarterPack: joined.raw }),
      createdAt: new Date().toISOString(),
      ...overrides,
    }
    const made = await this.agent.app.bsky.actor.profile.create({ repo: by }, record, this.getHeaders(by))
    const avatar = { cid: '', mimeType: 'image/png' }
    return (this.profiles[by] = {
      displayName,
      description,
      avatar,
      joinedViaStarterPack: joined,
      ref: new RecordRef(made.uri, made.cid),
    })
  }

  override mute(...[by, subject]: Parameters<Seed['mute']>): ReturnType<Seed['mute']> {
    this.muted.push({ by, subject })
    return Promise.resolve(new Set([subject]))
  }
}

/** Everybody likes everything, and half of the likes are deleted again. */
async function likesSeed(client: Client): Promise<void> {
  await basicSeed(client)
  const dids = Object.values(client.dids)
  const posts = dids.flatMap((did) => [...(client.posts[did] ?? []), ...(client.replies[did] ?? [])])
  for (const [number, did] of dids.entries()) {
    for (const [i, { ref }] of posts.entries()) {
      const { rkey } = await client.like(did, ref)
      if ((i + number) % 2 === 0)
        await client.agent.app.bsky.feed.like.delete({ repo: did, rkey }, client.getHeaders(did))
    }
  }
}

/** All threads of the original seeds; each has users of its own. */
async function threadSeeds(client: Client): Promise<void> {
  const t = seedThreadV2
  const threads = [t.simple, t.long, t.deep, t.branchingFactor, t.annotateMoreReplies, t.annotateOP, t.sort]
  const more = [t.bumpOpAndViewer, t.bumpGroupSorting, t.bumpFollows, t.mutes, t.threadgated, t.tags]
  for (const thread of [...threads, ...more]) await thread(client)
  await t.blockDeletionAuth(client, EXAMPLE_LABELER)
}
