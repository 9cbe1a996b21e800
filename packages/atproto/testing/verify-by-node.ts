/** Verifies signatures by `node:crypto` alone: what `signature.ts` does where the addon does not load. */
import { parseDidKey } from '../did-key.ts'
import { isLowS } from '../signature.ts'
import { nodeChecker } from '../signature-checker.ts'

/** As `verifySignature`, without a cache. */
export function verifyByNode(didKey: string, bytes: Uint8Array, signature: Uint8Array): boolean {
  const checker = nodeChecker(parseDidKey(didKey))
  return signature.length === 64 && isLowS(checker.curve, signature) && checker.check(bytes, signature)
}
