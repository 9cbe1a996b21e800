/**
 * Walks a whole Merkle search tree in key order, over the blocks of an export.
 *
 * With `check`, the walk verifies everything: nodes canonical, each key on its layer, order across nodes, no empty node
 * below the root, and every node and leaf present. A tree with any missing block is `mst-incomplete`, wherever it was
 * cut. The walk holds the nodes on the path from the root. Their memory is bounded, since anybody can make a node that
 * takes 18 times its block when decoded.
 */
import type { CarStore } from './car-store.ts'
import { heightOf, parseNode, refuseMst, type NodeView } from './mst-node.ts'

interface Step extends NodeView {
  block: Buffer
  layer: number
  /** The next thing to visit: even for a subtree, odd for a key. */
  next: number
}

/**
 * The memory that the nodes from the root to a key may take. Normal nodes have four entries on average: a path of ten
 * nodes takes 10 kB.
 */
const PATH_BYTES = 16 * 1024 * 1024

interface WalkOptions {
  check: boolean
  pathBytes?: number
}

export class TreeWalk {
  /** The current key: where `advance` has gone to. */
  key = ''
  /** The block with the CID of the current key's value, and the CID's offset in it. */
  valueBlock: Buffer
  valueAt = -1
  /** The number of the value's block in the store. */
  leaf = -1
  readonly #store: CarStore
  readonly #check: boolean
  readonly #path: Step[] = []
  /** The memory that the path may still take. */
  #bytesLeft: number

  /** @throws RefusedError<MstRefusal> */
  constructor(store: CarStore, root: number, { check, pathBytes = PATH_BYTES }: WalkOptions) {
    this.#store = store
    this.#check = check
    this.#bytesLeft = pathBytes
    this.valueBlock = store.block(root)
    const view = parseNode(this.valueBlock, pathBytes)
    const [first] = view.keys
    if (first === undefined && view.trees[0] !== -1) {
      throw refuseMst('mst-empty-node', 'the root has a subtree and no key')
    }
    this.#enter(view, this.valueBlock, first === undefined ? 0 : heightOf(first))
  }

  /**
   * Goes to the next key; false after the last.
   * @throws RefusedError<MstRefusal>
   */
  advance(): boolean {
    for (let step = this.#path.at(-1); step !== undefined; step = this.#path.at(-1)) {
      const index = step.next >> 1
      if (step.next > step.keys.length * 2) {
        this.#path.pop()
        this.#bytesLeft += step.bytes
      } else if (step.next++ % 2 === 1) {
        this.#arrive(step, index)
        return true
      } else if (step.trees[index] !== -1) {
        this.#descend(step, step.trees[index]!)
      }
    }
    return false
  }

  #arrive(step: Step, index: number): void {
    const key = step.keys[index]!
    if (this.#check && key <= this.key) throw refuseMst('mst-wrong-order', 'a subtree has keys beyond its neighbours')
    this.key = key
    this.valueBlock = step.block
    this.valueAt = step.values[index]!
    this.leaf = this.#store.find(step.block, this.valueAt)
    if (this.leaf === -1) throw refuseMst('mst-incomplete', `the record ${key} is not among the blocks`)
  }

  #descend(step: Step, at: number): void {
    if (step.layer === 0) throw refuseMst('mst-wrong-layer', 'a subtree below layer 0')
    const number = this.#store.find(step.block, at)
    if (number === -1)
      throw refuseMst('mst-incomplete', `a node after ${this.key || 'the start'} is not among the blocks`)
    const block = this.#store.block(number)
    const view = parseNode(block, this.#bytesLeft)
    if (view.keys.length === 0 && view.trees[0] === -1) {
      throw refuseMst('mst-empty-node', 'a node below the root holds nothing')
    }
    this.#enter(view, block, step.layer - 1)
  }

  #enter({ keys, values, trees, bytes }: NodeView, block: Buffer, layer: number): void {
    if (this.#check) {
      for (const key of keys) {
        if (heightOf(key) !== layer)
          throw refuseMst('mst-wrong-layer', `a key of layer ${heightOf(key)} on layer ${layer}`)
      }
    }
    this.#bytesLeft -= bytes
    this.#path.push({ keys, values, trees, bytes, block, layer, next: 0 })
  }
}
