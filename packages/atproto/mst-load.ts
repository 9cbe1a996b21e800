/**
 * Loads those nodes of a tree whose blocks are present, and checks each that can be reached: canonical, on its layer,
 * in order, not empty. The memory of all nodes together is limited (`mst-too-large`).
 */
import { readCid, type Cid } from './cid.ts'
import { heightOf, parseNode, refuseMst, type NodeView } from './mst-node.ts'

/**
 * The memory that the nodes of a tree may take. A commit may have 2 MB of blocks. Even if these are all nodes, they
 * take less than this limit with keys of 100 bytes. With keys of 1,000 bytes that differ in their last bytes only, they
 * take 37 MB. A chain of nodes without keys counts once for each path that leads to it.
 */
const TREE_BYTES = 8 * 1024 * 1024

/** Blocks of nodes, by CID. */
export type Blocks = ReadonlyMap<Cid, Buffer>

/** A subtree: a node in memory, a CID when its node is missing, or null for none. */
export type Tree = Node | Cid | null

/** A node in memory. Changes are made in place. */
export class Node {
  readonly layer: number
  readonly keys: string[]
  readonly values: Cid[]
  /** One subtree before each key, and one after the last key. */
  readonly trees: Tree[]
  /** Undefined once the node has changed. */
  cid: Cid | undefined

  constructor(layer: number, keys: string[], values: Cid[], trees: Tree[], cid?: Cid) {
    this.layer = layer
    this.keys = keys
    this.values = values
    this.trees = trees
    this.cid = cid
  }

  get isEmpty(): boolean {
    return this.keys.length === 0 && this.trees[0] === null
  }
}

/**
 * The tree under `root`: its root node, or the root's CID when its block is missing.
 * @throws RefusedError<MstRefusal>
 */
export function loadTree(blocks: Blocks, root: Cid): Node | Cid {
  return new Loader(blocks).root(root)
}

/** The place of a node: its layer, and the keys between which its own keys must be. */
interface Place {
  layer: number
  after: string
  before: string | undefined
}

/** Reads those nodes whose blocks are present. */
class Loader {
  readonly #blocks: Blocks
  #bytesLeft = TREE_BYTES

  constructor(blocks: Blocks) {
    this.#blocks = blocks
  }

  root(root: Cid): Node | Cid {
    const block = this.#blocks.get(root)
    if (block === undefined) return root
    const view = this.#parse(block)
    const [first] = view.keys
    if (first !== undefined)
      return this.#node(root, block, view, { layer: heightOf(first), after: '', before: undefined })
    if (view.trees[0] !== -1) throw refuseMst('mst-empty-node', 'the root has a subtree and no key')
    return new Node(0, [], [], [null], root)
  }

  #node(cid: Cid, block: Buffer, { keys, values, trees }: NodeView, { layer, after, before }: Place): Node {
    if (keys.length > 0 && (keys[0]! <= after || (before !== undefined && keys.at(-1)! >= before))) {
      throw refuseMst('mst-wrong-order', 'a subtree has keys beyond its neighbours')
    }
    for (const key of keys) {
      if (heightOf(key) !== layer)
        throw refuseMst('mst-wrong-layer', `a key of layer ${heightOf(key)} on layer ${layer}`)
    }
    const children = trees.map((at, i): Tree => {
      if (at === -1) return null
      if (layer === 0) throw refuseMst('mst-wrong-layer', 'a subtree below layer 0')
      const place = { layer: layer - 1, after: i === 0 ? after : keys[i - 1]!, before: keys[i] ?? before }
      return this.#child(readCid(block, at)!, place)
    })
    return new Node(
      layer,
      keys,
      values.map((at) => readCid(block, at)!),
      children,
      cid,
    )
  }

  #child(cid: Cid, place: Place): Tree {
    const block = this.#blocks.get(cid)
    if (block === undefined) return cid
    const view = this.#parse(block)
    if (view.keys.length === 0 && view.trees[0] === -1) {
      throw refuseMst('mst-empty-node', 'a node below the root holds nothing')
    }
    return this.#node(cid, block, view, place)
  }

  #parse(block: Buffer): NodeView {
    const view = parseNode(block, this.#bytesLeft)
    this.#bytesLeft -= view.bytes
    return view
  }
}
