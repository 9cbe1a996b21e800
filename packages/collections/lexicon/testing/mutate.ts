/** Spoils records: one value somewhere inside is removed, replaced, or changed a little. */
import { type Random } from './random.ts'
import { cid, perturb, rawCid, text } from './samples.ts'

type Holder = Record<string, unknown> | unknown[]

/** A copy of the record with one to three things changed. */
export function mutate(random: Random, record: unknown): unknown {
  const holder = [structuredClone(record)]
  for (let changes = 1 + random.below(3); changes > 0 && holder.length > 0; changes--) {
    change(random, random.pick(places(holder)))
  }
  return holder[0] ?? null
}

interface Place {
  holder: Holder
  key: string | number
  value: unknown
}

/** The places of all values in the record, the record itself first. */
function places(holder: Holder): Place[] {
  const own = Array.isArray(holder)
    ? holder.map((value, key) => ({ holder, key, value }))
    : Object.entries(holder).map(([key, value]) => ({ holder, key, value }))
  return own.flatMap((place) => [place, ...(isHolder(place.value) ? places(place.value) : [])])
}

function isHolder(value: unknown): value is Holder {
  return typeof value === 'object' && value !== null
}

function change(random: Random, { holder, key, value }: Place): void {
  if (random.once(4)) remove(holder, key)
  else if (random.once(3)) put(holder, key, odd(random))
  else put(holder, key, variant(random, value))
}

function remove(holder: Holder, key: string | number): void {
  if (Array.isArray(holder)) holder.splice(key as number, 1)
  else delete holder[key]
}

function put(holder: Holder, key: string | number, value: unknown): void {
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true })
}

/** A value that differs a little from the given one. */
function variant(random: Random, value: unknown): unknown {
  if (typeof value === 'string') return variantOfString(random, value)
  if (typeof value === 'number')
    return random.pick([value + 0.5, -value, value + 1, value - 1, value * 1e6, value * 1e300, String(value), -0])
  if (typeof value === 'boolean') return random.pick([!value, String(value), Number(value)])
  if (Array.isArray(value))
    return random.pick([
      [...value, ...value],
      [...value, odd(random)],
      [...value].reverse(),
      [value],
      Object.fromEntries(value.entries()),
      Array(9).fill(value[0]),
    ])
  return isHolder(value) ? variantOfObject(random, value as Record<string, unknown>) : odd(random)
}

const TYPES = [
  'com.example.unknown',
  '',
  'app.bsky.embed.images#main',
  'app.bsky.embed.images',
  'com.atproto.repo.strongRef',
  'blob',
  1,
  null,
  undefined,
  {},
]
const EDGES = [10, 11, 20, 21, 63, 64, 65, 127, 128, 300, 301, 639, 640, 641, 2560, 2561, 3000, 3001]

function variantOfString(random: Random, value: string): unknown {
  switch (random.below(6)) {
    case 0:
      return text(random, random.pick(EDGES))
    case 1:
      return value.padEnd(random.pick(EDGES), random.pick(['a', 'é', 'あ', '👍🏽', '\u0301']))
    case 2:
      return [value]
    case 3:
      return `${value}#main`
    default:
      return perturb(random, value)
  }
}

function variantOfObject(random: Random, value: Record<string, unknown>): unknown {
  switch (random.below(8)) {
    case 0:
      return withKey(value, '$type', random.pick(TYPES))
    case 1:
      return withKey(value, random.pick(['extra', 'constructor', 'toString', '$', 'cid', 'size']), odd(random))
    case 2:
      return withKey(value, random.pick(['$link', '$bytes']), random.pick([rawCid(random), 'AAAA', '', 1, null]))
    case 3:
      return random.once(4) ? withKey(value, '__proto__', odd(random)) : [value]
    case 4:
      return Object.fromEntries(Object.entries(value).toReversed())
    case 5:
      return nested(value, 1 + random.below(100))
    case 6:
      return value.ref && random.once(2)
        ? { ...value, ref: random.pick([{ $link: cid(random) }, cid(random), {}, null]) }
        : {}
    default:
      return withKey(value, random.pick([...Object.keys(value), 'x']), odd(random))
  }
}

function withKey(object: Record<string, unknown>, key: string, value: unknown): Record<string, unknown> {
  const copy = { ...object }
  put(copy, key, value)
  if (value === undefined) remove(copy, key)
  return copy
}

function nested(value: unknown, depth: number): unknown {
  for (let i = 0; i < depth; i++) value = i % 2 === 0 ? { a: value } : [value]
  return value
}

/** A value that is rarely valid where it is put. */
function odd(random: Random): unknown {
  return random.pick<() => unknown>([
    () => null,
    () => true,
    () => 0,
    () => -1,
    () => 1.5,
    () => 1e300,
    () => 2 ** 53,
    () => -(2 ** 53),
    () => '',
    () => 'x',
    () => '\0',
    () => '\uD800',
    () => 'app.bsky.feed.post',
    () => [],
    () => {},
    () => ({}),
    () => [null],
    () => [1.5],
    () => ({ a: 1.5 }),
    () => ({ a: [{ b: 0.1 }] }),
    () => text(random, random.pick(EDGES)),
    () => nested(1, random.below(150)),
    () => ({ $link: cid(random) }),
    () => ({ $link: rawCid(random) }),
    () => ({ $link: 'bad' }),
    () => ({ $link: '' }),
    () => ({ $link: rawCid(random), x: 1 }),
    () => ({ $link: null }),
    () => ({ $bytes: 'AAAA' }),
    () => ({ $bytes: '' }),
    () => ({ $bytes: 'AA==' }),
    () => ({ $bytes: '_-' }),
    () => ({ $bytes: '!' }),
    () => ({ $bytes: 'A' }),
    () => ({ $bytes: 'A A\nAA' }),
    () => ({ $bytes: 1 }),
    () => ({ $bytes: 'AA', $link: rawCid(random) }),
    () => ({ $bytes: Buffer.alloc(random.pick(EDGES)).toString('base64') }),
    () => ({ $bytes: 'AB' }),
    () => ({ cid: rawCid(random), mimeType: 'image/png' }),
    () => ({ cid: cid(random), mimeType: 'image/png' }),
    () => ({ $type: 'blob' }),
    () => ({
      $type: 'blob',
      ref: { $link: rawCid(random) },
      mimeType: random.pick(['image/png', 'IMAGE/PNG', 'image', '', 'video/mp4', 'text/vtt', 'image/png; a=b']),
      size: random.pick([0, 1, -1, 1e6, 1e6 + 1, 2e6, 2e6 + 1, 1.5, '1', 1e9]),
    }),
    () => ({ $type: 'blob', ref: { $link: cid(random) }, mimeType: 'image/jpeg', size: 1 }),
    () => ({ $type: 'blob', ref: { $link: rawCid(random) }, mimeType: 'image/jpeg', size: 1, x: 1 }),
    () => ({ $type: random.pick(TYPES) }),
    () => ({ uri: 'at://did:plc:abc/a.b.c/d', cid: cid(random) }),
  ])()
}
