import { createLogger } from '@sluice/runtime/log.ts'
import { expect, test } from 'vitest'
import { ResyncStorm, STORM_RESYNCS } from './resync-storm.ts'

const MINUTE_MS = 60_000

function storm() {
  const told: string[] = []
  const log = createLogger({ role: 'test', build: 'test', level: 'silent' })
  const recordIncident = ({ kind, what }: { kind: string; what: string }): Promise<void> => {
    told.push(`${kind}: ${what.split(' ')[0]}`)
    return Promise.resolve()
  }
  return { told, storm: new ResyncStorm({ log, recordIncident }, new AbortController().signal) }
}

test('so many within a minute are a storm, told once, until a minute brought fewer', () => {
  const { told, storm: watched } = storm()
  watched.turnedAway(STORM_RESYNCS - 1, 0)
  expect(told).toEqual([])
  watched.turnedAway(1, MINUTE_MS - 1)
  expect(told).toEqual([`resync-storm: ${STORM_RESYNCS}`])
  // It goes on for an hour.
  for (let minute = 1; minute < 60; minute++) watched.turnedAway(STORM_RESYNCS, minute * MINUTE_MS)
  expect(told).toHaveLength(1)
  watched.turnedAway(1, 60 * MINUTE_MS)
  watched.turnedAway(STORM_RESYNCS, 61 * MINUTE_MS)
  expect(told).toHaveLength(2)
})

test('what comes over many minutes is none, and silence ends one', () => {
  const { told, storm: watched } = storm()
  for (let minute = 0; minute < 60; minute++) watched.turnedAway(STORM_RESYNCS - 1, minute * MINUTE_MS)
  expect(told).toEqual([])
  watched.turnedAway(STORM_RESYNCS, 100 * MINUTE_MS)
  watched.turnedAway(STORM_RESYNCS, 200 * MINUTE_MS)
  expect(told).toHaveLength(2)
})
