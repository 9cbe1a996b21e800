import { expect, test } from 'vitest'
import { countGraphemes } from './graphemes.ts'
import { random, seedOfRun } from './testing/random.ts'
import { CLUSTERS } from './testing/samples.ts'

const SEED = seedOfRun()
const segmenter = new Intl.Segmenter()

function segments(text: string): number {
  return [...segmenter.segment(text)].length
}

test('every character of the basic plane that skips the segmenter breaks from its like', () => {
  // A character that can join any neighbour can join one of these: a letter (marks, prepended signs), a syllable with
  // and without final (jamo), a pictograph, the character itself.
  const others: string[] = []
  for (let code = 0; code < 0x10000; code++) {
    const char = String.fromCharCode(code)
    const text = `a${char}a가${char}가각${char}각©${char}©${char}${char}`
    if (countGraphemes(text) !== segments(text)) others.push(code.toString(16))
  }
  expect(others).toEqual([])
})

test('any text counts as the segmenter says', () => {
  const chance = random(SEED)
  for (let i = 0; i < 20_000; i++) {
    const text = Array.from({ length: chance.below(12) }, () => chance.pick(CLUSTERS)).join('')
    if (countGraphemes(text) !== segments(text))
      expect.fail(`SEED=${SEED} ${JSON.stringify(text)}: ${countGraphemes(text)}, segmenter ${segments(text)}`)
  }
})

test('the counts of texts that people write', () => {
  expect(countGraphemes('')).toBe(0)
  expect(countGraphemes('hello')).toBe(5)
  expect(countGraphemes('line\r\nline')).toBe(9)
  expect(countGraphemes('👩‍👩‍👧‍👦🇩🇪👍🏽')).toBe(3)
  expect(countGraphemes('日本語 한국어')).toBe(7)
})
