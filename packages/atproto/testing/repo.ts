/**
 * A deterministic repository for tests, with real records, tree and signatures. It makes the frames that its host would
 * send (with the blocks that inversion needs), its export, and, with `Tampering`, frames that are wrong in one named
 * way.
 */
import { tidFromMicros } from '@sluice/events/tid.ts'
import { encodeCbor } from '../cbor-encode.ts'
import { cidOf, formatCid, type Cid } from '../cid.ts'
import { writeCar } from './car-write.ts'
import { encodeFrame } from './frames.ts'
import { testKey, type TestKey } from './keys.ts'
import { buildTree, type BuiltTree } from './tree.ts'

/** One write: a record (lexicon JSON), or null to delete. */
export interface Write {
  path: string
  record: Record<string, unknown> | null
}

export interface Op {
  action: string
  path: string
  cid: { $link: string } | null
  prev?: { $link: string }
}

/** The body of a `#commit` before it is encoded. Tests may change it. */
export interface CommitBody {
  seq: number
  time: string
  repo: string
  rev: string
  since: string | null
  commit: { $link: string }
  prevData?: { $link: string }
  ops: Op[]
  blocks: Uint8Array
  blobs: unknown[]
  rebase: boolean
  tooBig: boolean
}

export interface Made {
  body: CommitBody
  /** The blocks that `body.blocks` holds. */
  blocks: Map<Cid, Buffer>
  /** The encoded frame. */
  bytes: Buffer
}

const FIRST_MICROS = Date.UTC(2026, 0, 1) * 1000

export class TestRepo {
  readonly did: string
  key: TestKey
  rev = ''
  seq = 0
  commit: Cid | undefined
  tree: BuiltTree = buildTree(new Map())
  readonly records = new Map<string, { cid: Cid; block: Buffer }>()
  #micros: number
  #commitBlock: Buffer = Buffer.alloc(0)

  constructor(
    did: string,
    { key = testKey(did), startMs = FIRST_MICROS / 1000 }: { key?: TestKey; startMs?: number } = {},
  ) {
    this.did = did
    this.key = key
    this.#micros = startMs * 1000
  }

  get data(): Cid {
    return this.tree.root
  }

  /** Applies the writes in one commit, and returns its frame. `stepMs`: the time since the last commit. */
  write(
    writes: readonly Write[],
    { stepMs = 1_000, seq = this.seq + 1 }: { stepMs?: number; seq?: number } = {},
  ): Made {
    const since = this.rev === '' ? null : this.rev
    const prevData = this.data
    const ops = writes.map((write) => this.#apply(write))
    this.tree = buildTree(new Map([...this.records].map(([path, { cid }]) => [path, cid])))
    this.#sign(stepMs)
    this.seq = seq
    const blocks = this.#slice(ops)
    const body: CommitBody = {
      seq,
      time: new Date(this.#micros / 1000).toISOString(),
      repo: this.did,
      rev: this.rev,
      since,
      commit: { $link: formatCid(this.commit!) },
      ...(since !== null && { prevData: { $link: formatCid(prevData) } }),
      ops,
      blocks: writeCar(this.commit!, blocks),
      blobs: [],
      rebase: false,
      tooBig: false,
    }
    return { body, blocks, bytes: encodeFrame('#commit', body) }
  }

  /** A `#sync` frame of the current state. */
  sync({ seq = this.seq + 1 }: { seq?: number } = {}): { body: Record<string, unknown>; bytes: Buffer } {
    if (this.commit === undefined) this.#sign(1_000)
    this.seq = seq
    const body = {
      seq,
      time: new Date(this.#micros / 1000).toISOString(),
      did: this.did,
      rev: this.rev,
      blocks: writeCar(this.commit!, [[this.commit!, this.#commitBlock]]),
    }
    return { body, bytes: encodeFrame('#sync', body) }
  }

  /** All blocks, in the order in which hosts send them: commit, nodes, records in key order. */
  blocks(): [Cid, Buffer][] {
    if (this.commit === undefined) this.#sign(1_000)
    const records = [...this.records]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, { cid, block }]): [Cid, Buffer] => [cid, block])
    return [[this.commit!, this.#commitBlock], ...this.tree.nodes, ...records]
  }

  /** The export of the repository, a CAR. */
  export(): Buffer {
    const blocks = this.blocks()
    return writeCar(this.commit!, blocks)
  }

  #apply({ path, record }: Write): Op {
    const prev = this.records.get(path)?.cid
    const before = prev !== undefined && { prev: { $link: formatCid(prev) } }
    if (record === null) {
      if (prev === undefined) throw new Error(`${path} does not exist`)
      this.records.delete(path)
      return { action: 'delete', path, cid: null, ...before }
    }
    // Copied to memory of its own. A slice of Node's buffer pool would keep its 8 kB alive: 7 kB a record over a long
    // run.
    const block = Buffer.from(Uint8Array.from(encodeCbor(record)).buffer)
    const cid = cidOf(block)
    this.records.set(path, { cid, block })
    return { action: prev === undefined ? 'create' : 'update', path, cid: { $link: formatCid(cid) }, ...before }
  }

  #sign(stepMs: number): void {
    this.#micros += stepMs * 1000
    this.rev = tidFromMicros(this.#micros, 7)
    this.#commitBlock = signedCommit(this.key, {
      did: this.did,
      version: 3,
      rev: this.rev,
      prev: null,
      data: link(this.data),
    })
    this.commit = cidOf(this.#commitBlock)
  }

  /**
   * The blocks that a commit carries: the commit, the new records, and the nodes on the paths to each key and to its
   * neighbours.
   */
  #slice(ops: Op[]): Map<Cid, Buffer> {
    const blocks = new Map<Cid, Buffer>([[this.commit!, this.#commitBlock]])
    const sorted = [...this.records.keys()].sort()
    const nodes = new Set<Cid>([this.tree.root])
    for (const { path, action } of ops) {
      if (action !== 'delete') blocks.set(this.records.get(path)!.cid, this.records.get(path)!.block)
      const at = lowerBound(sorted, path)
      const around = [sorted[at - 1], path, sorted[sorted[at] === path ? at + 1 : at]]
      for (const key of around) if (key !== undefined) for (const cid of this.tree.nodesFor(key)) nodes.add(cid)
    }
    for (const cid of nodes) blocks.set(cid, this.tree.nodes.get(cid)!)
    return blocks
  }
}

/** The block of a commit, signed with `key`. */
export function signedCommit(key: TestKey, unsigned: Record<string, unknown>): Buffer {
  return encodeCbor({ ...unsigned, sig: key.sign(encodeCbor(unsigned)) })
}

export function link(cid: Cid): { $link: string } {
  return { $link: formatCid(cid) }
}

function lowerBound(sorted: string[], key: string): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (sorted[middle]! < key) low = middle + 1
    else high = middle
  }
  return low
}
