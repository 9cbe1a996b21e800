/** Mentions and embeds for the posts of a history. */
import type { Random } from '@sluice/sandbox/random.ts'
import { blob } from './made-up.ts'

export function mention(did: string): object {
  return { index: { byteStart: 0, byteEnd: 8 }, features: [{ $type: 'app.bsky.richtext.facet#mention', did }] }
}

export function mediaEmbed(random: Random): object {
  return random.pick([
    {
      $type: 'app.bsky.embed.images',
      images: [
        { image: blob('a'), alt: 'a' },
        { image: blob('b'), alt: '' },
      ],
    },
    { $type: 'app.bsky.embed.external', external: { uri: 'https://example.com', title: 't', description: 'd' } },
    { $type: 'app.bsky.embed.video', video: blob('v', 'video/mp4'), alt: 'moving' },
  ])
}

/** Embeds a record, alone or with media. */
export function recordEmbed(random: Random, record: object): object {
  return random.chance(0.7)
    ? { $type: 'app.bsky.embed.record', record }
    : {
        $type: 'app.bsky.embed.recordWithMedia',
        record: { $type: 'app.bsky.embed.record', record },
        media: mediaEmbed(random),
      }
}
