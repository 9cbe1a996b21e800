import { expect, test } from 'vitest'
import { cursorKey, hostOf } from './cursors.ts'

test.each([
  ['relay.example', 'relay.example'],
  ['wss://Relay.Example/', 'relay.example'],
  ['https://Relay.example:443', 'relay.example:443'],
  ['http://localhost:2583', 'localhost:2583'],
])('%s is the host %s, however often it is asked for', (text, host) => {
  expect(hostOf(text)).toBe(host)
  expect(hostOf(host)).toBe(host)
  expect(cursorKey('firehose_live', text)).toBe(`firehose_live:cursor:${host}`)
})
