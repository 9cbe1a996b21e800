/**
 * Invalid exports, each wrong in one named way, made from a valid repository with real keys. A backfiller must refuse
 * all of them.
 */
import { encodeCbor } from '@sluice/atproto/cbor-encode.ts'
import { cidOf, type Cid } from '@sluice/atproto/cid.ts'
import { encodeNode, heightOf } from '@sluice/atproto/mst-node.ts'
import { tidFromMicros } from '@sluice/events/tid.ts'
import { writeCar } from '@sluice/atproto/testing/car-write.ts'
import { highS, testKey, type TestKey } from '@sluice/atproto/testing/keys.ts'
import { link, signedCommit, type TestRepo } from '@sluice/atproto/testing/repo.ts'

type Blocks = readonly (readonly [Cid, Uint8Array])[]

/** The blocks of the valid export, with another commit as root. */
function committed(
  repo: TestRepo,
  contents: Record<string, unknown>,
  { key = repo.key, blocks = repo.blocks() }: { key?: TestKey; blocks?: Blocks } = {},
) {
  const unsigned = { did: repo.did, version: 3, rev: repo.rev, prev: null, data: link(repo.data), ...contents }
  const commit = signedCommit(key, unsigned)
  return writeCar(cidOf(commit), [[cidOf(commit), commit], ...blocks])
}

/** One byte of the last block is changed. */
function wrongHash(repo: TestRepo): Buffer {
  const car = Buffer.from(repo.export())
  car[car.length - 1]! ^= 1
  return car
}

/** One record is missing. */
function withoutRecord(repo: TestRepo): Buffer {
  const [, gone] = [...repo.records][0]!
  return writeCar(
    repo.commit!,
    repo.blocks().filter(([cid]) => cid !== gone.cid),
  )
}

/** A node below the root of the tree is missing. */
function withoutNode(repo: TestRepo): Buffer {
  const gone = [...repo.tree.nodes.keys()].find((cid) => cid !== repo.data)
  return writeCar(
    repo.commit!,
    repo.blocks().filter(([cid]) => cid !== gone),
  )
}

/** The signature with the high S: valid mathematics, forbidden by atproto. */
function otherS(repo: TestRepo): Buffer {
  const unsigned = { did: repo.did, version: 3, rev: repo.rev, prev: null, data: link(repo.data) }
  const commit = encodeCbor({ ...unsigned, sig: highS(repo.key.sign(encodeCbor(unsigned)), repo.key.curve) })
  return writeCar(cidOf(commit), [[cidOf(commit), commit], ...repo.blocks()])
}

/** All keys are in one node, whatever their layer. Properly signed, but not the canonical tree of these records. */
function flatTree(repo: TestRepo): Buffer {
  const keys = [...repo.records.keys()].sort()
  const node = encodeNode(
    keys,
    keys.map((key) => repo.records.get(key)!.cid),
    [null, ...keys.map(() => null)],
  )
  if (new Set(keys.map(heightOf)).size < 2) throw new Error(`${repo.did} has too few records to be spoilt this way`)
  return committed(repo, { data: link(cidOf(node)) }, { blocks: [[cidOf(node), node], ...repo.blocks()] })
}

/** The rev is far in the future. */
function futureRev(repo: TestRepo): Buffer {
  return committed(repo, { rev: tidFromMicros((Date.now() + 86_400_000) * 1000) })
}

/** Each invalid export, with the reason by which it must be refused. */
export const SPOILT_EXPORTS = {
  'wrong hash': { reason: 'car-wrong-hash', make: wrongHash },
  'missing record': { reason: 'mst-incomplete', make: withoutRecord },
  'missing node': { reason: 'mst-incomplete', make: withoutNode },
  'wrong key': {
    reason: 'export-bad-signature',
    make: (repo: TestRepo) => committed(repo, {}, { key: testKey('somebody else') }),
  },
  'high S': { reason: 'export-bad-signature', make: otherS },
  'wrong DID': {
    reason: 'export-wrong-did',
    make: (repo: TestRepo) => committed(repo, { did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa' }),
  },
  'old version': { reason: 'commit-wrong-version', make: (repo: TestRepo) => committed(repo, { version: 2 }) },
  'not canonical': { reason: 'mst-wrong-layer', make: flatTree },
  'future rev': { reason: 'export-future-rev', make: futureRev },
  'no CAR': { reason: 'car-bad-block', make: () => Buffer.alloc(64, 0xff) },
  'no bytes': { reason: 'car-truncated', make: () => Buffer.alloc(0) },
} as const satisfies Record<string, { reason: string; make: (repo: TestRepo) => Buffer }>

export type SpoiltExport = keyof typeof SPOILT_EXPORTS

/** The positions at which blocks of an export end: a cut there leaves only complete blocks. */
export function blockBoundaries(repo: TestRepo): number[] {
  const ends: number[] = []
  const blocks = repo.blocks()
  for (let count = 0; count < blocks.length; count++) ends.push(writeCar(repo.commit!, blocks.slice(0, count)).length)
  return ends
}
