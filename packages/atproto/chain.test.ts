import { describe, expect, test } from 'vitest'
import { followSync } from './chain.ts'
import type { Cid } from './cid.ts'

const root = (n: number) => `\x01\x71\x12\x20${String(n).padStart(32, '0')}` as Cid
const [OLD, NOW, NEW] = ['3lzzzzzzzzz2a', '3mzzzzzzzzz2a', '3nzzzzzzzzz2a']

describe('a #sync, to whoever is at a state', () => {
  test.each([
    ['of that very state', NOW, root(1), 'duplicate'],
    ['of an older one', OLD, root(2), 'duplicate'],
    ['of another tree at the same rev: a fork, and an export tells which is true', NOW, root(2), 'resync'],
    ['of another tree at a newer rev', NEW, root(2), 'resync'],
    ['of the same tree at a newer rev', NEW, root(1), 'same'],
  ])('%s', (_, rev, data, kind) => {
    expect(followSync({ rev, data }, { rev: NOW, data: root(1) }).kind).toBe(kind)
  })

  test('of anything, where nothing is known', () => {
    expect(followSync({ rev: OLD, data: root(1) }, null).kind).toBe('resync')
  })
})
