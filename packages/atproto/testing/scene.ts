/** A repository, its next commit, and invalid variants of that commit, for tests of verification. */
import { cidOf, type Cid } from '../cid.ts'
import type { ChainState } from '../chain.ts'
import { decodeFrame, type CommitFrame } from '../frame.ts'
import { writeCar } from './car-write.ts'
import { encodeFrame } from './frames.ts'
import { link, signedCommit, type CommitBody, type Made, type TestRepo } from './repo.ts'
import { populatedRepo } from './world.ts'

/** The clock of these tests, Unix ms. */
export const NOW = Date.UTC(2026, 5, 1)
export const FULL = { level: 'full', nowMs: NOW } as const
export const POST = { $type: 'app.bsky.feed.post', text: 'hello', createdAt: '2026-01-01T00:00:00.000Z' }

export function frameOf(body: object): CommitFrame {
  return decodeFrame(encodeFrame('#commit', body)) as CommitFrame
}

export interface Scene {
  repo: TestRepo
  state: ChainState
  made: Made
}

/** A repository of 50 records, and its next commit: one create. */
export function scene(): Scene {
  const repo = populatedRepo('commit test', 50)
  const state = { rev: repo.rev, data: repo.data }
  const made = repo.write([{ path: 'app.bsky.feed.post/3kaaaaaaaaaa2', record: POST }])
  return { repo, state, made }
}

/** The scene's body with its blocks changed. */
export function withBlocks({ made, repo }: Scene, change: (blocks: Map<Cid, Buffer>) => void): CommitBody {
  const blocks = new Map<Cid, Buffer>(made.blocks)
  change(blocks)
  return { ...made.body, blocks: writeCar(repo.commit!, blocks) }
}

/** The scene's commit with other contents, signed again. */
export function resigned({ made, repo }: Scene, contents: Record<string, unknown>, key = repo.key): CommitBody {
  const unsigned = { did: repo.did, version: 3, rev: repo.rev, prev: null, data: link(repo.data), ...contents }
  return withCommit({ made, repo }, signedCommit(key, unsigned))
}

export function withCommit({ made, repo }: Pick<Scene, 'made' | 'repo'>, block: Buffer): CommitBody {
  const blocks = new Map<Cid, Buffer>(made.blocks)
  blocks.delete(repo.commit!)
  blocks.set(cidOf(block), block)
  return { ...made.body, commit: link(cidOf(block)), blocks: writeCar(cidOf(block), blocks) }
}
