/**
 * What the alerts tell of an event: one alert for one cause. Evaluated by Prometheus' own `promtool`, where that is
 * installed.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { root } from './roles.ts'

const RULES = join(root, 'infra/prometheus/alerts.yml')
const ALERTS = (parse(readFileSync(RULES, 'utf8')) as { groups: { rules: { alert: string }[] }[] }).groups.flatMap(
  ({ rules }) => rules.map(({ alert }) => alert),
)
const isInstalled = spawnSync('promtool', ['--version']).status === 0

/** By name with labels: the value of each minute, as promtool notes it (`0x9 1x30`: ten times 0, then 31 times 1). */
type Series = Record<string, string>

/** The minute at which the alerts are looked at, and from which on the event has lasted for a while, or just been. */
const [NOW, LONG_AGO, JUST_NOW] = [130, 85, 126]
const always = (value: number): string => `${value}x${NOW}`
const until = (minute: number, before: number, after: number): string => `${before}x${minute - 1} ${after}x${NOW}`
/** What was never scraped before. */
const only = (minute: number, value: number): string => `_x${minute} ${value}x${NOW}`
/** What is not scraped any more. */
const ended = (minute: number, value: number): string => `${value}x${minute}`

/** A process, begun so many minutes after the first. */
const processOf = (role: string, instance: string, values: (value: number) => string, startMinute = -600): Series => ({
  [`process_start_time_seconds{instance="${instance}"}`]: values(startMinute * 60),
  [`sluice_build_info{role="${role}",build="a",instance="${instance}"}`]: values(1),
})

const LIVE_ENTRIES = 'sluice_ingester_backpressure{stream="firehose_live",by="entries",instance="ingester"}'
const LIVE_MEMORY = 'sluice_ingester_backpressure{stream="firehose_live",by="memory",instance="ingester"}'
const CONNECTED = 'sluice_ingester_connected{host="relay",instance="ingester"}'
const LABELERS = 'sluice_ingester_labelers_connected{host="labeler",instance="ingester"}'
const EVENT_AGE = 'sluice_ingester_last_event_age_seconds{host="relay",instance="ingester"}'
const FRAMES = 'sluice_ingester_frames_total{host="relay",type="commit",instance="ingester"}'
const incidents = (kind: string, instance: string): string =>
  `sluice_incidents_total{kind="${kind}",instance="${instance}"}`
const letters = (instance: string): string =>
  `sluice_stream_dead_letters_total{stream="firehose_live",reason="constraint",instance="${instance}"}`

/** What the ingester says while it reads a relay and a labeler, and lists repositories. */
const ingester = (values: (value: number) => string): Series => ({
  ...processOf('ingester', 'ingester', values),
  [CONNECTED]: values(1),
  [LABELERS]: values(1),
  'sluice_ingester_listing_phase{phase="done",instance="ingester"}': values(1),
  [EVENT_AGE]: values(1),
  [LIVE_ENTRIES]: values(0),
  [LIVE_MEMORY]: values(0),
})

const HEALTHY: Series = {
  ...ingester(always),
  ...processOf('backfiller', 'backfiller', always),
  ...processOf('indexer', 'indexer', always),
  [FRAMES]: `0+600x${NOW}`,
}

/** The alerts that fire beside nothing but this. */
function firing(changes: Series): string[] {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-alerts-'))
  try {
    const file = join(dir, 'test.json')
    const series = Object.entries({ ...HEALTHY, ...changes }).map(([name, values]) => ({ series: name, values }))
    const expected = ALERTS.map((alertname) => ({ eval_time: `${NOW}m`, alertname, exp_alerts: [] }))
    const tests = [{ interval: '1m', input_series: series, alert_rule_test: expected }]
    // JSON is YAML. Nothing is expected, so promtool complains of each alert that fires.
    writeFileSync(file, JSON.stringify({ rule_files: [RULES], evaluation_interval: '5m', tests }))
    const { stdout, stderr, status } = spawnSync('promtool', ['test', 'rules', file], { encoding: 'utf8' })
    const found = [...`${stdout}${stderr}`.matchAll(/alertname: ?(\w+)/g)].map(([, name]) => name!)
    if (status !== 0 && found.length === 0) throw new Error(`${stdout}${stderr}`)
    return found.toSorted()
  } finally {
    rmSync(dir, { recursive: true })
  }
}

const EVENTS: Record<string, [changes: Series, told: string[]]> = {
  nothing: [{}, []],
  'a lost group': [{ [incidents('group-lost', 'indexer')]: until(JUST_NOW, 0, 1) }, ['SluiceGroupLost']],
  'entries that somebody trimmed, found by the backfiller': [
    { [incidents('phantom-entries', 'backfiller')]: until(JUST_NOW, 0, 1) },
    ['SluiceGroupLost'],
  ],
  'a lost group that an indexer finds at its start': [
    {
      ...processOf('indexer', 'indexer-two', (value) => only(JUST_NOW, value), JUST_NOW),
      [incidents('group-lost', 'indexer-two')]: only(JUST_NOW, 1),
    },
    ['SluiceGroupLost'],
  ],
  'a relay that has forgotten our cursor': [
    { [incidents('outdated-cursor', 'ingester')]: until(JUST_NOW, 0, 1) },
    ['SluiceIncident'],
  ],
  'a dead letter': [
    { [letters('indexer')]: until(JUST_NOW, 0, 1), [incidents('dead-letters', 'indexer')]: until(JUST_NOW, 0, 1) },
    ['SluiceDeadLetters'],
  ],
  'a dead letter of an indexer that has just started': [
    {
      ...processOf('indexer', 'indexer-two', (value) => only(JUST_NOW, value), JUST_NOW),
      [letters('indexer-two')]: only(JUST_NOW, 1),
      [incidents('dead-letters', 'indexer-two')]: only(JUST_NOW, 1),
    },
    ['SluiceDeadLetters'],
  ],
  'a consumer that died, and whose entries were taken over': [
    { [incidents('consumer-died', 'indexer')]: until(JUST_NOW, 0, 1) },
    [],
  ],
  'a Redis that is full': [{ [LIVE_MEMORY]: until(LONG_AGO, 0, 1) }, ['SluiceMemoryFull']],
  'a full stream, for which the ingester has left its relay': [
    {
      [LIVE_ENTRIES]: until(LONG_AGO, 0, 1),
      [CONNECTED]: until(LONG_AGO, 1, 0),
      [EVENT_AGE]: `1x${LONG_AGO - 1} 60+60x${NOW}`,
    },
    ['SluiceBackpressure'],
  ],
  'a relay that is away': [
    { [CONNECTED]: until(LONG_AGO, 1, 0), [EVENT_AGE]: `1x${LONG_AGO - 1} 60+60x${NOW}` },
    ['SluiceRelayDisconnected'],
  ],
  'a relay that is connected, and sends old events': [
    { [EVENT_AGE]: until(LONG_AGO, 1, 3_600) },
    ['SluiceIngesterBehind'],
  ],
  'no ingester any more': [ingester((value) => ended(LONG_AGO, value)), ['SluiceDaemonGone']],
  'no process any more that reads labels': [{ [LABELERS]: ended(LONG_AGO, 1) }, ['SluiceLabelsGone']],
  'no process any more that reads the firehose': [
    { [CONNECTED]: ended(LONG_AGO, 1), [EVENT_AGE]: ended(LONG_AGO, 1) },
    ['SluiceFirehoseGone'],
  ],
}

test.skipIf(!isInstalled).each(Object.entries(EVENTS))('%s: told once, if at all', (_, [changes, told]) => {
  expect(firing(changes)).toEqual(told)
})
