import { createLogger } from '@sluice/runtime/log.ts'
import { Metrics } from '@sluice/runtime/metrics.ts'
import { Readiness } from '@sluice/runtime/readiness.ts'
import { parseMetric } from '@sluice/sandbox/daemon.ts'
import { countIncidents } from '@sluice/streams/incidents.ts'
import { expect, test } from 'vitest'
import { observeConsumers } from './consumer-observer.ts'
import { RefusalLog } from './refusal-log.ts'

function observing() {
  const identity = { role: 'indexer', build: 'b' }
  const lines: string[] = []
  const log = createLogger({ ...identity, destination: { write: (line: string) => void lines.push(line) } })
  const metrics = new Metrics(identity)
  const readiness = new Readiness()
  const refusals = new RefusalLog(log)
  const observe = observeConsumers(['one', 'two'], {
    log,
    metrics,
    readiness,
    refusals,
    countIncident: countIncidents(metrics),
  })
  const value = async (name: string, labels: Record<string, string>) =>
    parseMetric(await metrics.render(), `sluice_stream_${name}_total`, labels)[0]
  return { observer: observe('one'), value, readiness, lines, refusals }
}

test('O1 what becomes of the entries of a stream is counted, each as what it is, and of that stream only', async () => {
  const { observer, value, refusals } = observing()
  using _ = refusals
  observer.read(11)
  observer.acked(7)
  observer.redelivered(3, 'own-pending')
  observer.redelivered(2, 'reclaimed')
  observer.phantoms(5)
  observer.buried('not-json', { entryId: '1-1', fields: {}, message: 'x' })
  observer.groupLost()
  const of = (stream: string) => [
    value('read_entries', { stream }),
    value('acked_entries', { stream }),
    value('redelivered_entries', { stream, from: 'own-pending' }),
    value('redelivered_entries', { stream, from: 'reclaimed' }),
    value('phantom_entries', { stream }),
    value('dead_letters', { stream, reason: 'not-json' }),
    value('groups_lost', { stream }),
  ]
  expect(await Promise.all(of('one'))).toEqual([11, 7, 3, 2, 5, 1, 1])
  expect(await Promise.all(of('two'))).toEqual([0, 0, 0, 0, 0, 0, 0])
})

test('O3 while a stream cannot be read the process does not work, and only what was taken from the dead is worth a line', () => {
  const { observer, readiness, lines, refusals } = observing()
  using _ = refusals
  observer.redelivered(3, 'own-pending')
  expect(lines).toEqual([])
  observer.redelivered(3, 'reclaimed')
  expect(lines.join('')).toContain('took over pending entries of one')
  observer.trouble(new Error('Redis is away'), 100)
  expect(readiness.reasons).toEqual(['redis one: Redis is away'])
  observer.recovered()
  expect(readiness.reasons).toEqual([])
})
