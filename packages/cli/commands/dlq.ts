/** `sluice dlq`: shows the entries that could not be applied, puts them back, or drops them. */
import type { Command } from 'commander'
import type { Redis } from '@sluice/streams/connection.ts'
import {
  countDeadLetters,
  dropDeadLetters,
  retryDeadLetters,
  selectDeadLetters,
  type DeadLetter,
  type Selection,
} from '@sluice/streams/dead-letters.ts'
import { letterIds, wholeNumber } from '../arguments.ts'
import { CannotError, examples, type Add, type Cli } from '../cli.ts'
import { readingsOf } from '../config.ts'
import { count, oneLine } from '../output.ts'
import { readingNamed } from '../reading-named.ts'
import type { Session } from '../session.ts'
import { describeSubject, subjectOf } from '../subject.ts'

interface Choice {
  stream?: string
  reason?: string
  all?: boolean
}

export const addDlq: Add = (cli, parent) => {
  const dlq = parent.command('dlq').description('look at dead letters, put them back, or drop them')
  dlq.addHelpText(
    'after',
    examples(
      ['sluice dlq list', 'what there is, by reason'],
      ['sluice dlq show 1732200000000-0', 'one, with its payload'],
      ['sluice dlq retry --reason constraint', 'after the cause is mended'],
      ['sluice dlq drop 1732200000000-0 --yes', 'for good'],
    ),
  )
  addList(cli, dlq)
  dlq
    .command('show')
    .description('show one dead letter with its payload')
    .argument('<id>', 'its id, as `dlq list` shows it', letterIds)
    .option('--stream <stream>', 'where it is, when several streams have that id')
    .action(([id]: string[], choice: Choice) => cli.run((session) => show(session, id!, choice)))
  addRetry(cli, dlq)
  addDrop(cli, dlq)
}

function addList(cli: Cli, dlq: Command): void {
  dlq
    .command('list')
    .description('list dead letters, oldest first')
    .option('--stream <stream>', 'only of this stream')
    .option('--reason <reason>', 'only of this reason')
    .option('-n, --count <count>', 'how many to show', wholeNumber(1), 20)
    .action((choice: Choice & { count: number }) => cli.run((session) => list(session, choice, choice.count)))
}

function addRetry(cli: Cli, dlq: Command): void {
  dlq
    .command('retry')
    .description('put dead letters back at the end of their stream; those that still fail come back here')
    .argument('[ids...]', 'their ids, as `dlq list` shows them', letterIds)
    .option('--stream <stream>', 'only of this stream')
    .option('--reason <reason>', 'all of this reason')
    .option('--all', 'all there are')
    .action((ids: string[], choice: Choice) => cli.run((session) => retry(session, ids, choice)))
}

function addDrop(cli: Cli, dlq: Command): void {
  dlq
    .command('drop')
    .description('remove dead letters for good; without --yes it only says what it would remove')
    .argument('[ids...]', 'their ids, as `dlq list` shows them', letterIds)
    .option('--stream <stream>', 'only of this stream')
    .option('--reason <reason>', 'all of this reason')
    .option('--all', 'all there are')
    .option('--yes', 'do it')
    .action((ids: string[], choice: Choice & { yes?: boolean }) => cli.run((session) => drop(session, ids, choice)))
}

async function list(session: Session, choice: Choice, shown: number): Promise<void> {
  const { out } = session
  const streams = streamsOf(session, choice)
  const redis = await session.redis()
  const counts: { stream: string; reason: string; entries: number }[] = []
  const letters: DeadLetter[] = []
  for (const stream of streams) {
    const { reasons } = await countDeadLetters(redis, stream)
    for (const [reason, entries] of Object.entries(reasons)) {
      if (choice.reason === undefined || reason === choice.reason) counts.push({ stream, reason, entries })
    }
    for await (const page of selectDeadLetters(redis, stream, selectionOf([], { all: true, ...choice }))) {
      letters.push(...page.slice(0, shown - letters.length))
      if (letters.length >= shown) break
    }
  }
  out.document({ counts, letters })
  if (counts.length === 0) return out.line('no dead letters')
  out.table(
    ['stream', 'reason', 'entries'],
    counts.map(({ stream, reason, entries }) => [stream, reason, count(entries)]),
  )
  out.line()
  const rows = letters.map((letter) => [
    letter.id,
    letter.stream,
    letter.reason,
    letter.code,
    letter.attempts,
    letter.retries,
    oneLine(describeSubject(subjectOf(letter.fields)), 90),
    oneLine(letter.message, 80),
  ])
  out.table(['id', 'stream', 'reason', 'code', 'tries', 'retried', 'about', 'message'], rows)
}

async function show(session: Session, id: string, choice: Choice): Promise<void> {
  const { out } = session
  const redis = await session.redis()
  const [[stream]] = [...(await locate(redis, session, [id], choice))] as [[string, string[]]]
  for await (const [letter] of selectDeadLetters(redis, stream, [id])) {
    if (letter === undefined) throw new CannotError(`dead letter ${id} is gone: somebody retried or dropped it`)
    out.document(letter)
    for (const [name, value] of Object.entries(letter)) {
      if (typeof value !== 'object') out.line(`${name.padEnd(9)} ${oneLine(String(value), 2_000)}`)
    }
    out.line(`about     ${oneLine(describeSubject(subjectOf(letter.fields)), 500)}`)
    for (const [field, text] of Object.entries(letter.fields)) out.line(`${field}:\n${pretty(text)}`)
  }
}

async function retry(session: Session, ids: string[], choice: Choice): Promise<void> {
  const redis = await session.redis()
  const total = { retried: 0, damaged: 0 }
  for (const [stream, selection] of await selections(redis, session, ids, choice)) {
    const { retried, damaged } = await retryDeadLetters(redis, stream, selection)
    total.retried += retried
    total.damaged += damaged.length
  }
  session.out.document(total)
  session.out.line(`${count(total.retried)} dead letters are back in their streams`)
  if (total.damaged > 0) session.out.line(`${count(total.damaged)} have no payload, and can only be dropped`)
}

async function drop(session: Session, ids: string[], choice: Choice & { yes?: boolean }): Promise<void> {
  const { out } = session
  const redis = await session.redis()
  let [dropped, wouldDrop] = [0, 0]
  for (const [stream, selection] of await selections(redis, session, ids, choice)) {
    if (choice.yes) dropped += await dropDeadLetters(redis, stream, selection)
    else for await (const page of selectDeadLetters(redis, stream, selection)) wouldDrop += page.length
  }
  out.document(choice.yes ? { dropped } : { wouldDrop })
  if (choice.yes) return out.line(`dropped ${count(dropped)} dead letters`)
  out.line(`would drop ${count(wouldDrop)} dead letters: what they hold never reaches the index`)
  out.line('Nothing was done; add --yes to do it.')
}

function streamsOf({ settings }: Session, { stream }: Choice): string[] {
  const readings = stream === undefined ? readingsOf(settings) : [readingNamed(settings, stream)]
  return [...new Set(readings.map((reading) => reading.stream))]
}

/** @throws CannotError when neither ids nor a reason nor `--all` were given */
function selectionOf(ids: readonly string[], { reason, all }: Choice): Selection {
  if (ids.length > 0) return ids
  if (reason !== undefined) return { reason }
  if (all) return 'all'
  throw new CannotError('name ids, --reason or --all')
}

async function selections(
  redis: Redis,
  session: Session,
  ids: readonly string[],
  choice: Choice,
): Promise<[stream: string, selection: Selection][]> {
  if (ids.length > 0) {
    return [...(await locate(redis, session, ids, choice))].map(([stream, own]) => [stream, own])
  }
  const selection = selectionOf(ids, choice)
  return streamsOf(session, choice).map((stream) => [stream, selection])
}

/**
 * Finds the stream of each id.
 * @throws CannotError when an id is in no stream, or in several
 */
async function locate(
  redis: Redis,
  session: Session,
  ids: readonly string[],
  choice: Choice,
): Promise<Map<string, string[]>> {
  const places = new Map<string, string[]>(ids.map((id) => [id, []]))
  for (const stream of streamsOf(session, choice)) {
    for await (const page of selectDeadLetters(redis, stream, ids)) {
      for (const { id } of page) places.get(id)!.push(stream)
    }
  }
  const found = new Map<string, string[]>()
  for (const [id, [stream, ...others]] of places) {
    if (stream === undefined) throw new CannotError(`there is no dead letter ${id}; sluice dlq list shows them`)
    if (others.length > 0) throw new CannotError(`${id} is in ${stream}, ${others.join(', ')}: say which with --stream`)
    found.set(stream, [...(found.get(stream) ?? []), id])
  }
  return found
}

function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2)
  } catch {
    return oneLine(text, 10_000)
  }
}
