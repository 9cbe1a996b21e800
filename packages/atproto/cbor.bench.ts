/** Measures decoding of blocks and identifiers, next to the official libraries. `node cbor.bench.ts` */
import { decode, encode } from '@atproto/lex-cbor'
import { lexToJson } from '@atproto/lex-json'
import { isValidNsid } from '@atproto/syntax'
import { encodeCbor } from './cbor-encode.ts'
import { decodeItem, decodeRecord } from './cbor.ts'
import { formatCid, readCid, type Cid } from './cid.ts'
import { heightOf, parseNode } from './mst-node.ts'
import { parseSignedCommit } from './signed-commit.ts'
import { isNsid } from './syntax.ts'
import { measure, table } from './testing/measure.ts'
import { populatedRepo } from './testing/world.ts'

const repo = populatedRepo('cbor bench', 3_000)
const records = [...repo.records.values()].map(({ block }) => block)
const nodes = [...repo.tree.nodes.values()]
const cids = [...repo.tree.nodes.keys()]
const cidBytes = cids.map((cid) => Buffer.from(cid, 'latin1'))
const paths = [...repo.records.keys()]
const collections = paths.map((path) => path.slice(0, path.indexOf('/')))
const commit = repo.blocks()[0]![1]
const { sig: _, ...unsigned } = decode<Record<string, never>>(commit)

console.log(
  table('A record → lexicon JSON', [
    await measure('decodeRecord', records, decodeRecord),
    await measure('official: decode + lexToJson', records, (block: Buffer) => lexToJson(decode(block))),
    await measure('official: decode alone', records, (block: Buffer) => decode(block)),
  ]),
)
console.log(
  table('A node of the tree', [
    await measure('parseNode', nodes, (block) => parseNode(block, Infinity)),
    await measure('decodeItem', nodes, (block) => decodeItem(block, 0)),
    await measure('official: decode', nodes, (block: Buffer) => decode(block)),
  ]),
)
console.log(
  table('A CID from its bytes', [
    await measure('readCid', cidBytes, (bytes) => readCid(bytes, 0)),
    await measure('readCid + formatCid', cidBytes, (bytes) => formatCid(readCid(bytes, 0)!)),
    await measure('official: decode of a link', cids.map(linkBlock), (block: Buffer) => decode(block)),
  ]),
)
console.log(
  table('Others', [
    await measure('heightOf', paths, heightOf),
    await measure('isNsid', collections, isNsid),
    await measure('official: isValidNsid', collections, isValidNsid),
    await measure('parseSignedCommit', [commit], parseSignedCommit),
    await measure('official: encode of the unsigned commit', [unsigned], (value) => encode(value)),
  ]),
)

function linkBlock(cid: Cid): Buffer {
  return encodeCbor({ $link: formatCid(cid) })
}
