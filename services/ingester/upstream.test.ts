import { hostOf } from '@sluice/streams/cursors.ts'
import { expect, test } from 'vitest'
import { parseUpstream } from './upstream.ts'

test.each([
  ['relay.example', 'relay.example', 'wss://relay.example', 'https://relay.example'],
  ['https://relay.example/', 'relay.example', 'wss://relay.example', 'https://relay.example'],
  ['wss://Relay.Example:444', 'relay.example:444', 'wss://relay.example:444', 'https://relay.example:444'],
  ['ws://localhost:2583', 'localhost:2583', 'ws://localhost:2583', 'http://localhost:2583'],
  ['https://Relay.example:443', 'relay.example:443', 'wss://relay.example:443', 'https://relay.example:443'],
  // Not the default of what it is asked by. The name has none, as the command line has it.
  ['https://relay.example:80', 'relay.example', 'wss://relay.example:80', 'https://relay.example:80'],
  ['wss://[::1]:80/', '[::1]', 'wss://[::1]:80', 'https://[::1]:80'],
  ['relay.example:80', 'relay.example', 'wss://relay.example:80', 'https://relay.example:80'],
  ['ws://relay.example:443', 'relay.example:443', 'ws://relay.example:443', 'http://relay.example:443'],
  ['ws://relay.example:80', 'relay.example', 'ws://relay.example', 'http://relay.example'],
])('%s', (text, host, socketUrl, webUrl) => {
  expect(parseUpstream(text)).toEqual({ host, socketUrl, webUrl })
  // The command line finds the cursors by the name that the operator wrote.
  expect(hostOf(text)).toBe(host)
})

test.each(['', 'ftp://relay.example', 'https://relay.example/xrpc', 'https://me@relay.example', 'a b'])(
  '"%s" is no host',
  (text) => {
    expect(parseUpstream(text)).toBeUndefined()
  },
)
