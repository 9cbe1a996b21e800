/**
 * What a random small world may be about (`world.ts`): how frequent each act is in it, and what it begins with. Long
 * histories have less of each than its combinations need.
 */
import type { Random } from '@sluice/sandbox/random.ts'
import type { Making } from './record-maker.ts'

/** A new record of a kind; one that says the same again; a later version; one of what was deleted; a deletion. */
export type Act = Making | 'again' | 'edit' | 'anew' | 'delete'

export interface Theme {
  /** How many of all worlds are about it. */
  share: number
  /** How many accounts there are, if it takes so many. */
  accounts?: number
  /** What its first account does first: without it nothing else would be about anything. */
  begins: readonly Act[]
  weights: Readonly<Partial<Record<Act, number>>>
  /** Some threads are muted. Then posts stay in the thread in which they were first. */
  isMuted?: true
}

const THEMES: readonly Theme[] = [
  // Who may answer, by follows, by lists and by whom the root mentions.
  {
    share: 4,
    begins: ['post', 'threadgate'],
    weights: { reply: 8, follow: 8, threadgate: 4, again: 6, edit: 8, anew: 5, delete: 6 },
  },
  {
    share: 4,
    begins: ['post', 'list', 'threadgate'],
    weights: { reply: 8, list: 1, listitem: 8, threadgate: 4, again: 6, edit: 8, anew: 5, delete: 6 },
  },
  {
    share: 3,
    begins: ['post', 'threadgate'],
    weights: { reply: 10, threadgate: 8, follow: 1, edit: 12, anew: 5, delete: 5 },
  },
  // Whom follows and list items name, one after the other.
  {
    share: 3,
    accounts: 3,
    begins: ['post', 'threadgate', 'follow'],
    weights: { reply: 8, follow: 2, threadgate: 1, again: 2, edit: 14, anew: 3, delete: 3 },
  },
  {
    share: 3,
    accounts: 3,
    begins: ['post', 'list', 'threadgate', 'listitem'],
    weights: { reply: 8, listitem: 2, threadgate: 1, again: 2, edit: 14, anew: 3, delete: 3 },
  },
  // What is above what, and what is quoted.
  { share: 4, begins: ['post'], weights: { reply: 14, edit: 8, anew: 6, delete: 8 } },
  {
    share: 3,
    begins: ['post', 'postgate'],
    weights: { quote: 10, postgate: 6, reply: 4, edit: 8, anew: 6, delete: 8 },
  },
  // Who is told, and of what there may be one.
  { share: 2, begins: [], weights: { post: 1, verification: 8, edit: 12, delete: 14 } },
  {
    share: 1,
    begins: ['post'],
    weights: { like: 6, repost: 5, follow: 4, block: 2, again: 8, edit: 10, anew: 8, delete: 10 },
  },
  {
    share: 1,
    begins: ['post', 'list'],
    weights: { listblock: 4, optout: 4, starterpack: 3, profile: 5, again: 6, edit: 8, anew: 8, delete: 8 },
  },
  {
    share: 1,
    begins: ['post'],
    weights: { reply: 14, like: 6, repost: 4, quote: 4, edit: 8, anew: 5, delete: 7 },
    isMuted: true,
  },
  {
    share: 3,
    begins: [],
    weights: {
      post: 6,
      reply: 22,
      quote: 6,
      like: 5,
      repost: 3,
      follow: 8,
      block: 1,
      list: 2,
      listitem: 6,
      listblock: 1,
      threadgate: 9,
      postgate: 4,
      profile: 1,
      starterpack: 1,
      verification: 3,
      generator: 1,
      labeler: 1,
      optout: 1,
      status: 1,
      again: 5,
      edit: 12,
      anew: 6,
      delete: 14,
    },
  },
]

export function themeOf(random: Random): Theme {
  return random.pick(THEMES.flatMap((theme) => Array.from({ length: theme.share }, () => theme)))
}
