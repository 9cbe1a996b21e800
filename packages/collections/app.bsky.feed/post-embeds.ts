/** What a post embeds: pictures, a video, a link, another record, or a record with media. Pure. */
import { blobCid, type BlobRef } from '../blobs.ts'
import { collectionOfUri, table, type StrongRef } from '../define.ts'
import type { Row } from '../record.ts'

interface Link {
  uri: string
  title: string
  description: string
  thumb?: BlobRef
  /** The records that the linked page shows. */
  associatedRefs?: StrongRef[]
}

export type Embed =
  | { $type: 'app.bsky.embed.images'; images: { image: BlobRef; alt: string }[] }
  | { $type: 'app.bsky.embed.gallery'; items: { $type: string; image: BlobRef; alt: string }[] }
  | { $type: 'app.bsky.embed.video'; video: BlobRef; alt?: string }
  | { $type: 'app.bsky.embed.external'; external: Link }
  | { $type: 'app.bsky.embed.record'; record: StrongRef }
  | { $type: 'app.bsky.embed.recordWithMedia'; record: { record: StrongRef }; media: Embed }
  /** Any kind of embed that this code does not know. The union is open, so lexicons may add kinds. */
  | { $type: '' }

const image = table(
  'post_embed_image',
  { postUri: 'text', position: 'text', imageCid: 'text', alt: 'text' },
  { owner: 'postUri' },
)
const galleryImage = table(
  'post_embed_gallery_image',
  { postUri: 'text', position: 'text', imageCid: 'text', alt: 'text' },
  { owner: 'postUri' },
)
const video = table('post_embed_video', { postUri: 'text', videoCid: 'text', alt: 'text?' }, { owner: 'postUri' })
const external = table(
  'post_embed_external',
  { postUri: 'text', uri: 'text', title: 'text', description: 'text', thumbCid: 'text?' },
  { owner: 'postUri' },
)
const record = table('post_embed_record', { postUri: 'text', embedUri: 'text', embedCid: 'text' }, { owner: 'postUri' })

/**
 * The kinds of media that may accompany an embedded record. The union of media is open: the lexicon accepts any other
 * `$type` there without checking its content. For example, `media` may be an `app.bsky.embed.record` that has no
 * `record`. Rows are made of these checked kinds only.
 */
const MEDIA: ReadonlySet<string> = new Set([
  'app.bsky.embed.images',
  'app.bsky.embed.gallery',
  'app.bsky.embed.video',
  'app.bsky.embed.external',
])

export const embedTables = [image, galleryImage, video, external, record]

/** The record that this embed shows: a post, a list, a feed generator, or any other kind of record. */
export function embedded(embed: Embed | undefined): StrongRef | undefined {
  switch (embed?.$type) {
    case 'app.bsky.embed.record':
      return embed.record
    case 'app.bsky.embed.recordWithMedia':
      return embed.record.record
    default:
      return undefined
  }
}

/** URIs of the records that the linked page shows (`associatedRefs`). */
export function linked(embed: Embed | undefined): string[] {
  const media = embed?.$type === 'app.bsky.embed.recordWithMedia' ? embed.media : embed
  return media?.$type === 'app.bsky.embed.external' ? (media.external.associatedRefs ?? []).map(({ uri }) => uri) : []
}

/** The post that this embed quotes. Only posts are quoted; an embedded record of another kind is no quote. */
export function quoted(embed: Embed | undefined): StrongRef | undefined {
  const ref = embedded(embed)
  return ref && collectionOfUri(ref.uri) === 'app.bsky.feed.post' ? ref : undefined
}

/** The rows of what the post embeds. An embed of an unknown kind has none. */
export function embedRows(postUri: string, embed: Embed | undefined): Row[] {
  switch (embed?.$type) {
    case 'app.bsky.embed.images':
      return embed.images.map((img, i) =>
        image.row({ postUri, position: String(i), imageCid: blobCid(img.image)!, alt: img.alt }),
      )
    case 'app.bsky.embed.gallery':
      return embed.items.flatMap((item, i) =>
        item.$type !== 'app.bsky.embed.gallery#image'
          ? []
          : [galleryImage.row({ postUri, position: String(i), imageCid: blobCid(item.image)!, alt: item.alt })],
      )
    case 'app.bsky.embed.video':
      return [video.row({ postUri, videoCid: blobCid(embed.video)!, alt: embed.alt ?? null })]
    case 'app.bsky.embed.external': {
      const { uri, title, description, thumb } = embed.external
      return [external.row({ postUri, uri, title, description, thumbCid: blobCid(thumb) })]
    }
    case 'app.bsky.embed.record':
      return [record.row({ postUri, embedUri: embed.record.uri, embedCid: embed.record.cid })]
    case 'app.bsky.embed.recordWithMedia':
      return [
        record.row({ postUri, embedUri: embed.record.record.uri, embedCid: embed.record.record.cid }),
        ...(MEDIA.has(embed.media.$type) ? embedRows(postUri, embed.media) : []),
      ]
    default:
      return []
  }
}
