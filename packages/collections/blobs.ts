/** References to blobs in lexicon JSON. */

/** The current form (`ref`), or the legacy form of early clients (`cid`). */
export type BlobRef = { ref: { $link: string } } | { cid: string }

/** The CID of the referenced blob, or null when there is no reference. */
export function blobCid(blob: BlobRef | undefined): string | null {
  if (!blob) return null
  return 'ref' in blob ? blob.ref.$link : blob.cid
}
