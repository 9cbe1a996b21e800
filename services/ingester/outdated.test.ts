import { expect, test } from 'vitest'
import { Outdated } from './outdated.ts'

const HOURS = 3_600_000

test('once a connection, and again on the next ones when something has come, or when what is lost by now may be from after the sweep', () => {
  const outdated = new Outdated()
  const said = (position: number | undefined, atHours: number) => outdated.isNews(position, atHours * HOURS)
  expect(said(undefined, 0)).toBe(true)
  expect(said(5, 1)).toBe(false)
  outdated.connected()
  expect(said(5, 2)).toBe(true)
  expect(said(5, 2)).toBe(false)
  for (const hours of [3, 10, 25]) {
    outdated.connected()
    expect(said(5, hours)).toBe(false)
  }
  outdated.connected()
  expect(said(5, 26)).toBe(true)
  outdated.connected()
  expect(said(6, 26)).toBe(true)
})

test('a relay that never sent anything is no other', () => {
  const outdated = new Outdated()
  expect(outdated.isNews(undefined, 0)).toBe(true)
  outdated.connected()
  expect(outdated.isNews(undefined, HOURS)).toBe(false)
})
