import { inflateSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { type Action, plan } from './plan.ts'
import { png } from './png.ts'
import { Random } from './random.ts'

const OPTIONS = { seed: 7, people: 30, before: 1_500, during: 500 }

test('a seed decides everything; another seed decides otherwise', () => {
  expect(plan(OPTIONS)).toEqual(plan(OPTIONS))
  expect(plan({ ...OPTIONS, seed: 8 }).before).not.toEqual(plan(OPTIONS).before)
})

test('both parts hold every kind of record, edits, deletions and labels with negations', () => {
  const { before, during } = plan(OPTIONS)
  const collections = [
    ...['post', 'like', 'repost', 'threadgate', 'postgate', 'generator'].map((name) => `app.bsky.feed.${name}`),
    ...['follow', 'block', 'list', 'listitem', 'listblock', 'starterpack'].map((name) => `app.bsky.graph.${name}`),
    'com.example.sandbox.note',
  ]
  for (const part of [before, during]) {
    const created = part.flatMap((action) => (action.kind === 'create' ? [action.collection] : []))
    expect(new Set(created)).toEqual(
      new Set(part === before ? [...collections, 'app.bsky.actor.profile'] : collections),
    )
    const text = JSON.stringify(part)
    for (const embed of ['images', 'external', 'record', 'recordWithMedia'])
      expect(text).toContain(`"app.bsky.embed.${embed}"`)
    for (const facet of ['mention', 'link', 'tag']) expect(text).toContain(`app.bsky.richtext.facet#${facet}`)
    expect(part.some(({ kind }) => kind === 'replace')).toBe(true)
    expect(part.some(({ kind }) => kind === 'delete')).toBe(true)
    expect(part.some((action) => action.kind === 'label' && action.negate)).toBe(true)
    expect(part.some((action) => action.kind === 'label' && !action.negate)).toBe(true)
  }
})

test('nobody deletes or replaces what does not exist, and no key is taken twice while it lives', () => {
  const { before, during } = plan(OPTIONS)
  const living = new Map<number, string>()
  for (const action of [...before, ...during]) {
    if (action.kind === 'label') continue
    if (action.kind === 'create') {
      const key = `${action.who} ${action.collection} ${action.rkey}`
      expect([...living.values()]).not.toContain(key)
      living.set(action.id, key)
    } else {
      expect(living.has(action.id)).toBe(true)
      if (action.kind === 'delete') living.delete(action.id)
    }
  }
})

test('a record refers only to records that were created before it', () => {
  const { before, during } = plan(OPTIONS)
  const created = new Set<number>()
  for (const action of [...before, ...during]) {
    for (const [, id] of JSON.stringify(recordOf(action)).matchAll(/"\$(?:ref|uri)":(\d+)/g)) {
      expect(created.has(Number(id))).toBe(true)
    }
    if (action.kind === 'create') created.add(action.id)
  }
})

test('record keys sort as the plan goes', () => {
  const posts = plan(OPTIONS).before.filter(
    (action) => action.kind === 'create' && action.collection === 'app.bsky.feed.post',
  )
  const keys = posts.map((action) => (action.kind === 'create' ? action.rkey : ''))
  expect(keys).toEqual(keys.toSorted())
  expect(keys.every((key) => /^[2-7a-z]{13}$/.test(key) && /^[2-7a-j]/.test(key))).toBe(true)
})

test('a picture is a PNG with the rows it promises', () => {
  const picture = png(3, 2, 0x102030)
  expect(picture.subarray(1, 4).toString()).toBe('PNG')
  expect(picture.readUInt32BE(16)).toBe(3)
  const start = picture.indexOf('IDAT') + 4
  const rows = inflateSync(picture.subarray(start, start + picture.readUInt32BE(start - 8)))
  expect([...rows]).toEqual([0, 16, 32, 48, 16, 32, 48, 16, 32, 48, 0, 16, 32, 48, 16, 32, 48, 16, 32, 48])
})

test('weights are kept roughly, and a choice from nothing is an error', () => {
  const random = new Random(1)
  const counts = { often: 0, seldom: 0, never: 0 }
  for (let i = 0; i < 10_000; i++) counts[random.weighted({ often: 9, seldom: 1, never: 0 })]++
  expect(counts.never).toBe(0)
  expect(counts.seldom).toBeGreaterThan(800)
  expect(counts.seldom).toBeLessThan(1_200)
  expect(() => random.pick([])).toThrow('nothing to pick from')
})

function recordOf(action: Action): unknown {
  return 'record' in action ? action.record : {}
}
