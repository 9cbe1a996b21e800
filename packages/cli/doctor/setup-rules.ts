/** What can be wrong with the set-up of the daemons taken together. */
import { wantedCollections } from '@sluice/collections/collections.ts'
import { collectionFilter } from '@sluice/collections/patterns.ts'
import type { Finding, Rule } from './finding.ts'
import { oneLine } from '../output.ts'

export const streamsAgree: Rule = ({ settings }) => {
  const { streams, indexed, indexedLabels, backfilled, requested } = settings
  const pairs: [isRead: boolean, written: string, writer: string, reader: string, readNow: string][] = [
    [indexed.includes(streams.live), streams.live, 'INGESTER_FIREHOSE_STREAM', 'INDEXER_STREAMS', indexed.join(',')],
    [
      indexed.includes(streams.backfill),
      streams.backfill,
      'BACKFILLER_FIREHOSE_STREAM',
      'INDEXER_STREAMS',
      indexed.join(','),
    ],
    [backfilled === streams.repo, streams.repo, 'INGESTER_REPO_STREAM', 'BACKFILLER_BACKFILL_STREAM', backfilled],
    [backfilled === requested, requested, 'INDEXER_REPO_STREAM', 'BACKFILLER_BACKFILL_STREAM', backfilled],
    [indexedLabels === streams.label, streams.label, 'INGESTER_LABEL_STREAM', 'INDEXER_LABEL_STREAM', indexedLabels],
  ]
  return pairs.flatMap(([isRead, written, writer, reader, readNow]): Finding[] =>
    isRead
      ? []
      : [
          {
            id: 'config-streams',
            severity: 'broken',
            what: `nobody reads ${written}`,
            evidence: `${writer}=${written}, but ${reader}=${readNow}`,
            meaning: 'What is written there stays there until its mark is reached, and then its producer stands still.',
            mend: `set ${reader} and ${writer} to the same stream, and restart both`,
          },
        ],
  )
}

export const collectionsAgree: Rule = ({ settings }) => {
  const indexed = wantedCollections([], settings.collections)
  const roles: [variable: string, chosen: readonly string[], role: string, meaning: string][] = [
    [
      'INGESTER_COLLECTIONS',
      settings.ingested,
      'ingester',
      'Live changes of these collections never arrive; only a resync of a repository brings them.',
    ],
    [
      'BACKFILLER_COLLECTIONS',
      settings.exported,
      'backfiller',
      'Older records of these collections never arrive, and a resync does not mend what the live stream missed of them.',
    ],
  ]
  return roles.flatMap(([variable, chosen, role, meaning]): Finding[] => {
    const lets = collectionFilter(chosen)
    const missing = indexed.filter((pattern) => !lets(pattern.replace(/\*$/, 'anything')))
    if (chosen.length === 0 || missing.length === 0) return []
    return [
      {
        id: 'config-collections',
        severity: 'warning',
        what: `the ${role} keeps out what the indexer would index`,
        evidence: `${variable}=${chosen.join(',')} leaves out ${missing.slice(0, 5).join(', ')}${missing.length > 5 ? ` and ${missing.length - 5} more` : ''}`,
        meaning,
        mend: `remove ${variable}: without it everything that is indexed is let through`,
      },
    ]
  })
}

export const unknownVariables: Rule = ({ unknownVariables: problems }) =>
  problems.map((problem) => ({
    id: 'config-unknown',
    severity: 'broken',
    what: 'a variable is misspelt',
    evidence: problem,
    meaning: 'A daemon does not start with it: a setting that is silently ignored costs days.',
    mend: 'correct or remove it where the daemons get their environment; sluice config --check (in a container, whose environment is that of one role: sluice config <role> --check)',
  }))

export const versions: Rule = ({ daemons }) => {
  const builds = new Map(
    daemons.flatMap(({ build, role, url }) => (build === undefined ? [] : [[`${role} ${url}`, build]])),
  )
  if (new Set(builds.values()).size < 2) return []
  return [
    {
      id: 'version-mismatch',
      severity: 'warning',
      what: 'the daemons are of different builds',
      evidence: [...builds].map(([who, build]) => `${who}: ${build}`).join('; '),
      meaning: 'Fine while an upgrade goes on; later it means that one was forgotten.',
      mend: 'bring all of them to the same image, the indexer first',
    },
  ]
}

export const daemons: Rule = ({ daemons: all }) =>
  all.flatMap(({ url, silent, ready, reasons = [], role }): Finding[] => {
    if (silent !== undefined) {
      return [
        {
          id: 'daemon-silent',
          severity: 'broken',
          what: `nobody answers at ${url}`,
          evidence: oneLine(silent, 200),
          meaning: 'The daemon is not running, or hangs, or its METRICS_PORT is another one.',
          mend: 'start it, or correct SLUICE_DAEMONS',
        },
      ]
    }
    if (ready) return []
    return [
      {
        id: 'daemon-not-ready',
        severity: 'broken',
        what: `the ${role} at ${url} does not do its work`,
        evidence: oneLine(reasons.join('; '), 300),
        meaning: 'It is alive, and waits for what the reasons name. It goes on by itself when that is mended.',
        mend: `curl -s ${url}/ready; see to what it names`,
      },
    ]
  })
