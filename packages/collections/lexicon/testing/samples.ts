/** Strings that tests make records and formats from: good, borderline and odd ones. */
import type { StringFormat } from '../formats.ts'
import type { Random } from './random.ts'

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567'

/** Strings for counting graphemes, as code points: longer than one UTF-16 unit, or able to join a neighbour. */
const CLUSTER_CODES = `
  61 5A 20 A D D.A 0 9 E9 65.301 301 AD A9 AE 200D FE0F 1F44D.1F3FD 1F469.200D.1F469.200D.1F467.200D.1F466
  1F3F3.FE0F.200D.1F308 1F1E9.1F1EA 1F1E9 1F600 231A 2764.FE0F D55C AC00 AC01 1100 1161 11A8 915.94D.937.93F
  928.93F 94D E01.E47 E33 645.64E 600 3042 3099 6F22 3000 3030 FF9E FF76 D800 DC00 200B FDFA 1D4B3 2C30 ABED
  D4E D15 110BD 1F3FB 2060 FFFF 2028 34F 31.FE0F.20E3`

export const CLUSTERS = CLUSTER_CODES.trim()
  .split(/\s+/)
  .map((codes) => String.fromCodePoint(...codes.split('.').map((code) => Number.parseInt(code, 16))))

export function text(random: Random, units: number): string {
  const ascii = random.once(2)
  let made = ''
  while (made.length < units) made += ascii ? random.text('abc xyz.', 8) : random.pick(CLUSTERS)
  return ascii ? made.slice(0, units) : made
}

export function tid(random: Random): string {
  return `3${random.text(BASE32, 12)}`
}

export function did(random: Random): string {
  if (random.once(6))
    return random.pick([
      'did:web:example.com',
      'did:web:localhost%3A1234',
      'did:key:zQ3shZc2QzApp2oymGvQbzP8eKheVshBH',
      'did:example:a:b',
    ])
  return `did:plc:${random.text(BASE32, 24)}`
}

export function handle(random: Random): string {
  return random.pick([
    'alice.test',
    'Bob.Example.com',
    'xn--bcher-kva.tld',
    'a.b.c.d.e',
    '0.x',
    `${'a'.repeat(63)}.com`,
  ])
}

export function cid(random: Random): string {
  const text = random.text(BASE32, 50)
  const last = random.text('aeimquy4', 1)
  if (random.once(8)) {
    return random.pick([
      'QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR',
      'zdj7WWeQ43G6JJvLWQWZpyHuAMq6uYWRjkBXFad11vE2LHhQ7',
      'bafkrgqbmjhhv4ehvfxobh5xzwvwrpcrbpdegkh4ovnynqtdd5rnw5vnvv6gqoyxwrzmlpl2gz7oocehxvlmcdhpf7jb2wjgqqx4eslk6lfgrs',
      'bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi',
      'k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8',
      'bafkqaaa',
    ])
  }
  return `${random.pick(['bafyrei', 'bafkrei'])}${random.text('abcdefgh', 1)}${text}${last}`
}

export function rawCid(random: Random): string {
  return `bafkreia${random.text(BASE32, 50)}${random.text('aeimquy4', 1)}`
}

function atUri(random: Random): string {
  const authority = random.once(4) ? handle(random) : did(random)
  if (random.once(12)) return `at://${authority}`
  const collection = nsid(random)
  if (random.once(12)) return `at://${authority}/${collection}`
  const fragment = random.once(12) ? random.pick(['#/a/b', '#/', '#', '#/%20', '#/%zz', '/', '?x=1', '?']) : ''
  return `at://${authority}/${collection}/${recordKey(random)}${fragment}`
}

export function nsid(random: Random): string {
  const bsky = `app.bsky.${random.pick(['feed.post', 'feed.like', 'graph.list', 'graph.starterpack', 'feed.generator'])}`
  return random.once(4)
    ? random.pick(['com.example.fooBar', 'net.users.bob.ping', 'a-0.b-1.c', 'cn.8.lex.stuff', 'A.B.C3'])
    : bsky
}

function recordKey(random: Random): string {
  return random.once(4)
    ? random.pick(['self', 'a', '_', '.', '..', '-', '~1.2-3_', 'pre:fix', 'x'.repeat(512), 'A0'])
    : tid(random)
}

export function datetime(random: Random): string {
  const time = new Date(random.below(2 ** 31) * 1_000 + random.below(1_000)).toISOString()
  if (!random.once(3)) return time
  // prettier-ignore
  return random.pick([
    time.replace('Z', '+00:00'), time.replace('Z', '-07:00'), time.replace('Z', '+23:59'), time.replace('.', '.123456'), time.slice(0, 19) + 'Z',
    '0000-01-01T00:00:00.000Z', '0000-01-01T00:00:00+01:00', '9999-12-31T23:59:59.999Z', '9999-12-31T23:59:59-00:01', '2023-02-31T00:00:00Z', '1985-04-12T23:20:50.1Z',
  ])
}

export function language(random: Random): string {
  return random.pick([
    'en',
    'ja',
    'pt-BR',
    'de',
    'zh-Hant-TW',
    'sr-Latn',
    'de-CH-1996',
    'en-US-u-islamcal',
    'x-private',
    'i-klingon',
    'art-lojban',
    'ast',
    'es-419',
    'sl-rozaj-biske',
  ])
}

export function uri(random: Random): string {
  return random.pick([
    'https://example.com/a?b=c#d',
    'http://x',
    'at://did:plc:abc',
    'dns:example.com',
    'mailto:a@b.c',
    'did:web:x',
    'https://例え.jp/ä',
  ])
}

export const SAMPLES: Readonly<Record<StringFormat, (random: Random) => string>> = {
  'at-identifier': (random) => (random.once(2) ? did(random) : handle(random)),
  'at-uri': atUri,
  cid,
  datetime,
  did,
  handle,
  language,
  nsid,
  'record-key': recordKey,
  tid,
  uri,
}

/** The string with a small change. */
export function perturb(random: Random, value: string): string {
  const at = random.below(value.length + 1)
  const odd = random.pick([
    ' ',
    '\n',
    '\0',
    '/',
    '#',
    '?',
    '%',
    ':',
    '.',
    '-',
    '_',
    'é',
    '😀',
    '\uD800',
    '8',
    '0',
    'A',
    'z',
    '=',
    '+',
    'Z',
    '~',
    '\u200B',
  ])
  switch (random.below(9)) {
    case 0:
      return value.slice(0, at) + odd + value.slice(at)
    case 1:
      return value.slice(0, at) + value.slice(at + 1)
    case 2:
      return value.slice(0, at) + odd + value.slice(at + 1)
    case 3:
      return value + odd
    case 4:
      return odd + value
    case 5:
      return value.toUpperCase()
    case 6:
      return value.slice(0, at)
    case 7:
      return value + value
    default:
      return value.toLowerCase()
  }
}
