/**
 * Builds a whole Merkle search tree from its keys, layer by layer from the top. This is deliberately the simplest
 * algorithm, and another one than that of `mst.ts`, which changes trees in place: so each checks the other.
 */
import { asBuffer } from '../bytes.ts'
import { cidOf, type Cid } from '../cid.ts'
import { encodeNode, heightOf } from '../mst-node.ts'

export interface BuiltTree {
  root: Cid
  nodes: Map<Cid, Buffer>
  /** The nodes on the path from the root to `key`, or to the place where it would be. */
  nodesFor(key: string): Cid[]
}

interface BuiltNode {
  cid: Cid
  keys: string[]
  trees: (BuiltNode | null)[]
}

const heights = new Map<string, number>()

/** Builds the tree of `values`. Keys are latin-1 strings. */
export function buildTree(values: ReadonlyMap<string, Cid>): BuiltTree {
  const nodes = new Map<Cid, Buffer>()
  const keys = [...values.keys()].sort()
  const top = keys.reduce((highest, key) => Math.max(highest, knownHeight(key)), 0)
  const root = keys.length === 0 ? store([], [null]) : build(keys, top)!
  return { root: root.cid, nodes, nodesFor: (key) => pathTo(root, key) }

  function build(range: string[], layer: number): BuiltNode | null {
    if (range.length === 0) return null
    const own = range.filter((key) => knownHeight(key) === layer)
    const bounds = [-1, ...own.map((key) => range.indexOf(key)), range.length]
    const trees = bounds.slice(1).map((end, i) => build(range.slice(bounds[i]! + 1, end), layer - 1))
    return store(own, trees)
  }

  function store(own: string[], trees: (BuiltNode | null)[]): BuiltNode {
    const block = encodeNode(
      own,
      own.map((key) => values.get(key)!),
      trees.map((tree) => tree && tree.cid),
    )
    const cid = cidOf(block)
    nodes.set(cid, asBuffer(block))
    return { cid, keys: own, trees }
  }
}

function pathTo(root: BuiltNode, key: string): Cid[] {
  const path: Cid[] = []
  for (let node: BuiltNode | null = root; node !== null;) {
    path.push(node.cid)
    if (node.keys.includes(key)) break
    const after: number = node.keys.findIndex((other) => other > key)
    node = node.trees[after === -1 ? node.keys.length : after]!
  }
  return path
}

function knownHeight(key: string): number {
  let height = heights.get(key)
  if (height === undefined) {
    height = heightOf(key)
    if (heights.size > 1_000_000) heights.clear()
    heights.set(key, height)
  }
  return height
}
