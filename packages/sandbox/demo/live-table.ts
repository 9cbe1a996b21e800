/**
 * The live table: drawn over itself on a terminal, a line now and then where there is none.
 *
 * It never ends by itself: while a store is away, or silent, it says so in place of figures and goes on looking, since
 * the daemons, which wait for the store too, end with it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { describeError } from '@sluice/runtime/errors.ts'
import { redact } from '@sluice/runtime/redact.ts'
import type { Figures, FigureReader, RepoFigures } from './figures.ts'

export interface Pace {
  /** From one drawing on a terminal to the next. */
  drawMs: number
  /** From one line to the next where there is no terminal. */
  lineMs: number
  /** A look that takes longer is told, and waited for further. */
  patienceMs: number
}

const PACE: Pace = { drawMs: 1_000, lineMs: 5_000, patienceMs: 5_000 }

const TABLES = [
  'record',
  'post',
  'like',
  'repost',
  'follow',
  'profile',
  'actor_block',
  'list_item',
  'post_embed_image',
  'quote',
  'post_agg',
  'profile_agg',
  'notification',
  'actor',
  'label',
]

export interface LiveTableOptions {
  reader: FigureReader
  /** One line above the table: what is going on. */
  headline: () => string
  signal: AbortSignal
  pace?: Partial<Pace>
}

/** Shows figures until aborted, and once more then: how it ended. */
export async function showLive({ reader, headline, signal, pace }: LiveTableOptions): Promise<void> {
  const { drawMs, lineMs, patienceMs } = { ...PACE, ...pace }
  const terminal = process.stdout.isTTY
  const looks = new Looks(reader, patienceMs)
  let before: Figures | undefined
  let drawn = 0
  for (;;) {
    const isLast = signal.aborted
    const now = await looks.next()
    if (terminal) {
      const lines = 'trouble' in now ? [headline(), '', now.trouble] : render(headline(), now, before)
      process.stdout.write(`${drawn > 0 ? `\x1b[${drawn}F\x1b[J` : ''}${lines.join('\n')}\n`)
      drawn = lines.length
    } else console.log('trouble' in now ? `${headline()} · ${now.trouble}` : oneLine(headline(), now, before))
    if (isLast) return
    if (!('trouble' in now)) before = now
    await sleep(terminal ? drawMs : lineMs, undefined, { signal }).catch(() => undefined)
  }
}

/** Why there are no figures, in one line. */
interface Trouble {
  trouble: string
}

/** Looks at the stores, one at a time, however long a look takes. */
class Looks {
  readonly #reader: FigureReader
  readonly #patienceMs: number
  #underWay: Promise<Figures | Trouble> | undefined
  #readAtMs = Date.now()

  constructor(reader: FigureReader, patienceMs: number) {
    this.#reader = reader
    this.#patienceMs = patienceMs
  }

  /** The figures, or why there are none yet, after the patience at the latest; never rejects. */
  async next(): Promise<Figures | Trouble> {
    this.#underWay ??= this.#read().finally(() => (this.#underWay = undefined))
    const answered = new AbortController()
    const late = sleep(this.#patienceMs, this.#trouble('no answer yet'), { signal: answered.signal })
    const first = await Promise.race([this.#underWay, late.catch(() => this.#trouble('no answer yet'))])
    answered.abort()
    return first
  }

  async #read(): Promise<Figures | Trouble> {
    try {
      const figures = await this.#reader.read()
      this.#readAtMs = figures.at
      return figures
    } catch (error) {
      return this.#trouble(error instanceof Error ? error.message : describeError(error))
    }
  }

  #trouble(why: string): Trouble {
    const seconds = ((Date.now() - this.#readAtMs) / 1_000).toFixed(1)
    return { trouble: `cannot be read for ${seconds} s: ${redact(why).replaceAll(/\s+/g, ' ')}; looking again` }
  }
}

export function render(headline: string, now: Figures, before: Figures | undefined): string[] {
  const rates = ratesOf(now, before)
  const streams = now.streams.map(({ name, depth, lagSeconds, appended }, i) =>
    [
      name.padEnd(20),
      cell(depth, 9),
      `${lagSeconds.toFixed(1)} s`.padStart(10),
      cell(rates[i]!, 10),
      cell(appended, 12),
    ].join(''),
  )
  const cells = TABLES.map((name) => `${name.padEnd(18)}${cell(now.rows.get(name) ?? 0, 9)}   `)
  const rows: string[] = []
  for (let i = 0; i < cells.length; i += 3)
    rows.push(
      cells
        .slice(i, i + 3)
        .join('')
        .trimEnd(),
    )
  return [
    headline,
    '',
    `${'stream'.padEnd(20)}${'depth'.padStart(9)}${'lag'.padStart(10)}${'events/s'.padStart(10)}${'appended'.padStart(12)}`,
    ...streams,
    '',
    repositories(now, before),
    '',
    'rows in PostgreSQL',
    ...rows,
  ]
}

function oneLine(headline: string, now: Figures, before: Figures | undefined): string {
  const rates = ratesOf(now, before)
  const streams = now.streams.map(
    ({ name, depth, lagSeconds }, i) => `${name} ${depth} (lag ${lagSeconds.toFixed(1)} s, ${Math.round(rates[i]!)}/s)`,
  )
  const rows = ['record', 'post', 'like', 'notification', 'label'].map((name) => `${name} ${now.rows.get(name) ?? 0}`)
  return `${headline} · ${streams.join(' · ')} · ${repositories(now, before)} · rows: ${rows.join(', ')}`
}

/** How far the backfill is, in one line. */
function repositories(now: Figures, before: Figures | undefined): string {
  const { repos } = now
  if (!repos) return 'repositories: the backfiller does not answer'
  const { done, dead, underWay, hosts, left, etaSeconds } = repos
  const eta =
    left === 0
      ? done === 0
        ? 'none asked for yet'
        : 'all done'
      : etaSeconds === 0
        ? 'no pace yet'
        : `${Math.ceil(etaSeconds)} s to go`
  const perSecond = (of: (repos: RepoFigures) => number): number =>
    before?.repos ? ((of(repos) - of(before.repos)) * 1000) / Math.max(1, now.at - before.at) : 0
  const pace = `${Math.round(perSecond((r) => r.records))} records/s, ${Math.round(perSecond((r) => r.bytes) / 1024)} kB/s`
  return `repositories ${done} done, ${dead} given up, ${underWay} under way at ${hosts} hosts, ${left} left; ${pace}; ${eta}`
}

function ratesOf(now: Figures, before: Figures | undefined): number[] {
  return now.streams.map(({ appended }, i) => {
    const earlier = before?.streams[i]
    return before && earlier ? ((appended - earlier.appended) * 1000) / Math.max(1, now.at - before.at) : 0
  })
}

function cell(value: number, width: number): string {
  return Math.round(value).toLocaleString('en-US').padStart(width)
}
