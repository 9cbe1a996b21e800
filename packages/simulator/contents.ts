/**
 * What is in the records that people write, as far as it is about nothing else: texts, pictures, links, dates in the
 * forms that people send.
 */
import { blob } from '@sluice/indexing/testing/made-up.ts'
import type { Random } from '@sluice/sandbox/random.ts'

export type Fields = Record<string, unknown>

const WORDS = [
  ...'the quick brown fox jumps over lazy dogs while rain falls on Zürich and 東京 👩‍👩‍👧 every day \\u0000'.split(' '),
  'n\0l',
]

export class Contents {
  readonly #random: Random

  constructor(random: Random) {
    this.#random = random
  }

  word(): string {
    return this.#random.pick(WORDS)
  }

  text(): string {
    return Array.from({ length: 1 + this.#random.below(25) }, () => this.word()).join(' ')
  }

  picture(mimeType = 'image/png'): object {
    return blob(`picture ${this.#random.below(40)}`, mimeType)
  }

  /** Languages and tags, an empty list too. */
  marks(): Fields {
    const random = this.#random
    return {
      ...(random.chance(0.5) && { langs: random.pick([['en'], ['de', 'en'], []]) }),
      ...(random.chance(0.2) && { tags: random.pick([['one'], ['two', 'one'], []]) }),
    }
  }

  facet(feature: Fields): object {
    return { index: { byteStart: 0, byteEnd: 1 }, features: [feature] }
  }

  profile(): Fields {
    const random = this.#random
    return {
      displayName: this.word(),
      description: this.text(),
      ...(random.chance(0.7) && { avatar: this.picture() }),
      ...(random.chance(0.4) && { banner: this.picture() }),
    }
  }

  /** Of a list or a feed. */
  described(): Fields {
    const random = this.#random
    if (random.chance(0.3)) return {}
    return {
      description: this.text(),
      ...(random.chance(0.5) && {
        descriptionFacets: [this.facet({ $type: 'app.bsky.richtext.facet#tag', tag: 'tag' })],
      }),
      ...(random.chance(0.5) && { avatar: this.picture() }),
    }
  }

  /** A record, media, or both. */
  embed(shown: object | undefined): Fields {
    const random = this.#random
    if (!shown || random.chance(0.4)) return this.media()
    const embed = { $type: 'app.bsky.embed.record', record: shown }
    if (random.chance(0.7)) return embed
    return { $type: 'app.bsky.embed.recordWithMedia', record: embed, media: this.media() }
  }

  media(): Fields & { $type: string } {
    const random = this.#random
    const kind = random.pick(['images', 'gallery', 'video', 'external'] as const)
    const $type = `app.bsky.embed.${kind}`
    const many = <T>(make: () => T): T[] => Array.from({ length: 1 + random.below(3) }, make)
    switch (kind) {
      case 'images':
        return { $type, images: many(() => ({ image: this.picture(), alt: this.word() })) }
      case 'gallery':
        return { $type, items: many(() => this.#galleryItem()) }
      case 'video':
        return { $type, video: this.picture('video/mp4'), ...(random.chance(0.5) && { alt: this.word() }) }
      case 'external': {
        const external = {
          uri: `https://example.com/${random.below(1_000)}`,
          title: this.word(),
          description: this.text(),
        }
        return { $type, external: { ...external, ...(random.chance(0.5) && { thumb: this.picture() }) } }
      }
    }
  }

  #galleryItem(): object {
    const aspectRatio = { width: 4, height: 3 }
    return { $type: 'app.bsky.embed.gallery#image', image: this.picture(), alt: this.word(), aspectRatio }
  }

  /** The same moment in another form, or another moment. Not for gates, whose dates say since when they are there. */
  date(iso: string): string {
    if (!this.#random.chance(0.1)) return iso
    return this.#random.pick([
      iso.replace('.000Z', 'Z'),
      iso.replace('.000Z', '.000000+00:00'),
      new Date(Date.parse(iso) + 7_200_000).toISOString().replace('Z', '+02:00'),
      `2099-01-01T00:00:00.${iso.slice(15, 16)}${iso.slice(17, 19)}Z`,
      `1985-04-12T23:20:${iso.slice(17, 19)}.123Z`,
    ])
  }
}
