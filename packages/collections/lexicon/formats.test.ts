import { validateCidString } from '@atproto/lex-data'
import { isAtUriString, isDatetimeString, parseLanguageString } from '@atproto/syntax'
import { describe, expect, test } from 'vitest'
import {
  FORMATS,
  isAtUri,
  isCid,
  isDatetime,
  isLanguage,
  isRawSha256Cid,
  isSha256Cid,
  type StringFormat,
} from './formats.ts'
import { hasInterop, interopLines } from './testing/interop.ts'
import { random, seedOfRun } from './testing/random.ts'
import { cid, perturb, rawCid, SAMPLES } from './testing/samples.ts'

const SEED = seedOfRun()

/**
 * Vectors of the specification with which the official indexer disagrees, and why. On these we follow the official
 * indexer.
 */
const AGAINST_VECTORS: Readonly<Record<string, string>> = {
  QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR:
    'version 0 is written in base58, and the official check asks only that',
  zdj7WWeQ43G6JJvLWQWZpyHuAMq6uYWRjkBXFad11vE2LHhQ7: 'version 1 is accepted in base32 only',
  zdj7WhuEjrB52m1BisYCtmjH1hSKa7yZ3jEZ9JcXaFRD51wVz: 'version 1 is accepted in base32 only',
  z7x3CtScH765HvShXT: 'version 1 is accepted in base32 only',
  'mBcDxtdWx0aWhhc2g+': 'version 1 is accepted in base32 only',
  '7134036155352661643226414134664076': 'version 1 is accepted in base32 only',
  f017012202c5f688262e0ece8569aa6f94d60aad55ca8d9d83734e4a7430d0cff6588ec2b: 'version 1 is accepted in base32 only',
  'content-type:text/plan': 'a scheme is letters, digits and underscores',
  'microsoft.windows.camera:thing': 'a scheme is letters, digits and underscores',
  [`https://example.com/${'x'.repeat(8200)}`]: 'URIs have no greatest length',
}

const FILES: readonly (readonly [StringFormat, string])[] = [
  ['at-identifier', 'atidentifier'],
  ['at-uri', 'aturi'],
  ['cid', 'cid'],
  ['datetime', 'datetime'],
  ['did', 'did'],
  ['handle', 'handle'],
  ['language', 'language'],
  ['nsid', 'nsid'],
  ['record-key', 'recordkey'],
  ['tid', 'tid'],
  ['uri', 'uri'],
]

const vectors = FILES.flatMap(([format, file]) => [
  ...interopLines(`syntax/${file}_syntax_valid.txt`).map((text) => ({ format, text, isValid: true })),
  ...interopLines(`syntax/${file}_syntax_invalid.txt`).map((text) => ({ format, text, isValid: false })),
  ...(file === 'datetime' || file === 'language' ? interopLines(`syntax/${file}_parse_invalid.txt`) : []).map(
    (text) => ({
      format,
      text,
      isValid: false,
    }),
  ),
])

describe.skipIf(!hasInterop)('interoperability vectors', () => {
  test('each is accepted or refused as its file says, except those on the list', () => {
    const others = vectors.filter(({ format, text, isValid }) => FORMATS[format](text) !== isValid)
    expect(others.map(({ text }) => text).toSorted()).toEqual(Object.keys(AGAINST_VECTORS).toSorted())
  })
})

describe('the fast path of a format accepts nothing that the official function refuses', () => {
  const OFFICIAL = [
    ['at-uri', isAtUri, (text: string) => isAtUriString(text)],
    ['cid', isCid, (text: string) => validateCidString(text)],
    ['datetime', isDatetime, (text: string) => isDatetimeString(text)],
    ['language', isLanguage, (text: string) => parseLanguageString(text) !== null],
  ] as const

  test.each(OFFICIAL)('%s, of strings good and nearly good', (format, ours, official) => {
    const chance = random(`${SEED} ${format}`)
    let accepted = 0
    for (let i = 0; i < 4_000; i++) {
      const good = SAMPLES[format](chance)
      for (const text of [good, perturb(chance, good), perturb(chance, perturb(chance, good))]) {
        if (ours(text) !== official(text))
          expect.fail(`SEED=${SEED} ${format} ${JSON.stringify(text)}: official ${official(text)}`)
        if (ours(text)) accepted++
      }
    }
    expect(accepted).toBeGreaterThan(2_000)
    expect(accepted).toBeLessThan(11_000)
  })

  test('datetime: every day of four years, every minute and second', () => {
    const days = [2000, 2023, 1900, 0].flatMap((year) =>
      twoDigits(14).flatMap((month) => twoDigits(33).map((day) => `${String(year).padStart(4, '0')}-${month}-${day}`)),
    )
    const times = twoDigits(62).flatMap((n) => [`${n}:00:00`, `00:${n}:00`, `00:00:${n}`, `23:59:${n}`])
    const texts = [...days.map((day) => `${day}T12:00:00Z`), ...times.map((time) => `2023-01-31T${time}.123Z`)]
    expect(texts.filter((text) => isDatetime(text) !== isDatetimeString(text))).toEqual([])
    expect(texts.filter(isDatetime).length).toBeGreaterThan(1_400)
  })

  test('cid: every character at every place', () => {
    const good = `bafkrei${'abcdefgh'.repeat(6)}abae`
    expect(isRawSha256Cid(good)).toBe(true)
    for (let at = 0; at < good.length; at++) {
      for (const char of 'abcdefghijklmnopqrstuvwxyz0123456789=A') {
        const text = good.slice(0, at) + char + good.slice(at + 1)
        expect([text, isCid(text)]).toEqual([text, validateCidString(text)])
        expect([text, isRawSha256Cid(text) && !validateCidString(text, { flavor: 'raw' })]).toEqual([text, false])
      }
    }
  })

  test('language: every language with every region', () => {
    const letters = 'abcdefghijklmnopqrstuvwxyz'.split('')
    const two = letters.flatMap((a) => letters.map((b) => a + b))
    const texts = [
      ...two,
      ...two.map((code) => `en-${code.toUpperCase()}`),
      ...two.flatMap((code) => letters.map((c) => code + c)),
    ]
    expect(texts.filter((text) => !isLanguage(text) || parseLanguageString(text) === null)).toEqual([])
  })
})

test('what is nearly always there takes the fast path', () => {
  const chance = random(SEED)
  const raws = Array.from({ length: 100 }, () => rawCid(chance))
  expect(raws.filter((text) => !isRawSha256Cid(text) || !isSha256Cid(text))).toEqual([])
  expect(Array.from({ length: 100 }, () => cid(chance)).some(isSha256Cid)).toBe(true)
})

function twoDigits(limit: number): string[] {
  return Array.from({ length: limit }, (_, n) => String(n).padStart(2, '0'))
}
