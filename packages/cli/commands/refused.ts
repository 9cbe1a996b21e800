/**
 * `sluice refused`: which frames the ingester refused, and why; and the bytes of one, to see what is wrong with them.
 */
import type { Redis } from '@sluice/streams/connection.ts'
import { hostOf } from '@sluice/streams/cursors.ts'
import { readLedger } from '@sluice/streams/ledger.ts'
import { countSamples, listSamples, readSample, type RefusedSample } from '@sluice/streams/refused-frames.ts'
import { sampleId, wholeNumber } from '../arguments.ts'
import { CannotError, examples, type Add } from '../cli.ts'
import type { Settings } from '../config.ts'
import { bytes, count, oneLine } from '../output.ts'
import { hexOf, readFrame } from '../read-frame.ts'
import type { Session } from '../session.ts'

interface Choice {
  stream?: string
  reason?: string
  count: number
}

/** What was refused for one reason. */
interface Refusals {
  stream: string
  reason: string
  /** Frames of the configured relays, since ever; undefined for labels, which only the metrics count. */
  frames?: number
  samples: number
}

export const addRefused: Add = (cli, parent) => {
  const refused = parent.command('refused').description('see which frames the ingester refused, and why')
  refused.addHelpText(
    'after',
    examples(
      ['sluice refused list', 'how many for which reason, and the newest samples'],
      ['sluice refused list --reason bad-signature', 'which frames they were'],
      ['sluice refused show 1732200000000-0', 'one of them: header, body, and the blocks that it carries'],
      ['sluice refused show 1732200000000-0 --frame | xxd', 'its bytes'],
    ),
  )
  refused
    .command('list')
    .description('list what was refused by reason, and samples of it, newest first')
    .option('--stream <stream>', 'only of the frames for this stream')
    .option('--reason <reason>', 'only of this reason')
    .option('-n, --count <count>', 'how many samples to show', wholeNumber(1), 20)
    .action((choice: Choice) => cli.run((session) => list(session, choice)))
  refused
    .command('show')
    .description('show one sample: what the frame says, as far as it can be read, or its bytes')
    .argument('<id>', 'its id, as `refused list` shows it', sampleId)
    .option('--stream <stream>', 'where it is, when two streams have that id')
    .option('--frame', 'write the frame itself to the standard output, and nothing else')
    .action((id: string, options: { stream?: string; frame?: boolean }) =>
      cli.run((session) => show(session, id, options)),
    )
}

async function list(session: Session, choice: Choice): Promise<void> {
  const { out, settings } = session
  const streams = streamsOf(settings, choice.stream)
  const redis = await session.redis()
  const counts = (await Promise.all(streams.map(async (stream) => countsOf(redis, settings, stream)))).flat()
  const wanted = counts.filter(({ reason }) => choice.reason === undefined || reason === choice.reason)
  const found = await Promise.all(streams.map(async (stream) => listSamples(redis, stream, choice)))
  const samples = found
    .flat()
    .toSorted((a, b) => (a.time < b.time ? 1 : -1))
    .slice(0, choice.count)
  out.document({ counts: wanted, samples })
  if (wanted.length + samples.length === 0) return out.line('nothing was refused')
  const rows = wanted.map(({ stream, reason, frames, samples: kept }) => [stream, reason, frames === undefined ? '-' : count(frames), kept]) // prettier-ignore
  out.table(['for', 'reason', 'frames, ever', 'samples'], rows)
  out.line()
  out.table(
    ['id', 'reason', 'host', 'seq', 'account', 'type', 'bytes', 'detail'],
    samples.map(rowOf),
    'no samples: they are stored a few a second at most, and by this build and later ones only',
  )
}

function rowOf({ id, reason, host, seq, did, type, frameBytes, detail }: RefusedSample): (string | number)[] {
  return [
    id,
    reason,
    oneLine(host, 60),
    seq ?? '-',
    oneLine(did, 40) || '-',
    type,
    frameBytes > 0 ? bytes(frameBytes) : '-',
    oneLine(detail, 80),
  ]
}

async function countsOf(redis: Redis, settings: Settings, stream: string): Promise<Refusals[]> {
  const samples = await countSamples(redis, stream)
  const reasons = new Map<string, Refusals>()
  const of = (reason: string): Refusals => {
    const known = reasons.get(reason) ?? { stream, reason, samples: samples.get(reason) ?? 0 }
    reasons.set(reason, known)
    return known
  }
  for (const reason of samples.keys()) of(reason)
  if (stream !== settings.streams.live) return [...reasons.values()]
  for (const host of new Set(settings.relays.map(hostOf))) {
    for (const [outcome, frames] of await readLedger(redis, stream, host)) {
      const [kind, reason] = outcome.split(':') as [string, string?]
      if (kind === 'refused' && reason !== undefined) of(reason).frames = (of(reason).frames ?? 0) + frames
    }
  }
  return [...reasons.values()].toSorted((a, b) => (b.frames ?? 0) - (a.frames ?? 0))
}

async function show(session: Session, id: string, options: { stream?: string; frame?: boolean }): Promise<void> {
  const { out } = session
  const { sample, frame } = await find(session, id, options.stream)
  if (options.frame) return out.raw(frame)
  const reading = readFrame(frame)
  out.document({ ...sample, ...reading, frame: frame.toString('base64') })
  for (const [name, value] of Object.entries(sample)) {
    if (name !== 'frameBytes') out.line(`${name.padEnd(8)} ${oneLine(String(value), 2_000)}`)
  }
  if (sample.frameBytes === 0) return out.line('frame    it was not at hand any more')
  const kept = frame.length < sample.frameBytes ? `, of which the first ${count(frame.length)} are kept` : ''
  out.line(`frame    ${count(sample.frameBytes)} bytes${kept}`)
  if (reading.header !== undefined) printJson(session, 'header', reading.header)
  if (reading.body !== undefined) printJson(session, 'body', reading.body)
  if (Array.isArray(reading.blocks)) {
    out.line('blocks:')
    for (const { cid, value, unreadable } of reading.blocks) out.line(`  ${cid} ${oneLine(unreadable ?? JSON.stringify(value), 2_000)}`) // prettier-ignore
  } else if (reading.blocks) out.line(`blocks cannot be read: ${oneLine(reading.blocks.unreadable, 500)}`)
  if (reading.unreadable === undefined) return
  out.line(`cannot be read: ${oneLine(reading.unreadable, 500)}`)
  for (const line of hexOf(frame)) out.line(`  ${line}`)
}

function printJson({ out }: Session, name: string, value: unknown): void {
  out.line(`${name}:`)
  for (const line of JSON.stringify(value, null, 2).split('\n')) {
    const [indent = ''] = /^ */.exec(line)!
    out.line(`  ${indent}${oneLine(line.trimStart(), 2_000)}`)
  }
}

/** @throws CannotError when there is none of this id, or one in each of several streams */
async function find(session: Session, id: string, stream: string | undefined) {
  const streams = streamsOf(session.settings, stream)
  const redis = await session.redis()
  const found = (await Promise.all(streams.map(async (name) => readSample(redis, name, id)))).filter(
    (sample) => sample !== undefined,
  )
  if (found.length > 1) throw new CannotError(`${id} is in ${streams.join(' and ')}: say which with --stream`)
  const [one] = found
  if (!one) throw new CannotError(`there is no sample ${id}; sluice refused list shows them`)
  return one
}

/** @throws CannotError that names the streams that exist */
function streamsOf({ streams }: Settings, wanted: string | undefined): string[] {
  const all = [streams.live, streams.label]
  if (wanted === undefined) return all
  if (all.includes(wanted)) return [wanted]
  throw new CannotError(`there is no stream ${wanted}; there are ${all.join(', ')}`)
}
