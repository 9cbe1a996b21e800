/**
 * In which order a daemon is asked, so that one whose name nobody answers costs the others nothing; and what is said of
 * one that does not answer.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import { inspectDaemons } from './daemon-state.ts'

const ANSWERS: Record<string, string> = {
  '/health': '{"role":"indexer","build":"v1","uptimeSeconds":3}',
  '/ready': '{"ready":true}',
  '/metrics': 'sluice_up 1\n',
}

test('nothing more is asked of a daemon until it has answered: each question looks its name up again', async () => {
  const asked: string[] = []
  let askedBeforeHealth: string[] | undefined
  await using server = createServer(({ url }, response) => {
    asked.push(url!)
    if (url !== '/health') return void response.end(ANSWERS[url!])
    // Others that were sent with it have arrived by then.
    setTimeout(() => {
      askedBeforeHealth = [...asked]
      response.end(ANSWERS[url])
    }, 100)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const [daemon] = await inspectDaemons({ urls: [url], named: true })
  expect(daemon).toEqual({
    url,
    role: 'indexer',
    build: 'v1',
    uptimeSeconds: 3,
    ready: true,
    reasons: [],
    metrics: [{ name: 'sluice_up', labels: {}, value: 1 }],
  })
  expect(asked.toSorted()).toEqual(['/health', '/metrics', '/ready'])
  expect(askedBeforeHealth).toEqual(['/health'])
})

test('a daemon that takes a question and does not answer it is silent, for a reason that an operator can read', async () => {
  let asked = 0
  await using server = createServer(() => void asked++).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  expect(await inspectDaemons({ urls: [url], named: true })).toEqual([{ url, silent: 'no answer within 3 s' }])
  expect(asked).toBe(1)
})
