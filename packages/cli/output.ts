/**
 * Output for people and programs: tables, numbers with units, one JSON document. Colour only on a terminal that wants
 * it.
 */
import { stripVTControlCharacters, styleText } from 'node:util'

export type Tone = 'good' | 'bad' | 'warn' | 'faint' | 'strong'
const STYLES = { good: 'green', bad: 'red', warn: 'yellow', faint: 'dim', strong: 'bold' } as const

export interface OutputOptions {
  json: boolean
  colour: boolean
  write: (text: string | Uint8Array) => void
}

export class Output {
  readonly json: boolean
  readonly #colour: boolean
  readonly #write: (text: string | Uint8Array) => void

  constructor({ json, colour, write }: OutputOptions) {
    this.json = json
    this.#colour = colour && !json
    this.#write = write
  }

  /** Writes a line for people; writes nothing when JSON was asked for. */
  line(text = ''): void {
    if (!this.json) this.#write(`${text}\n`)
  }

  /** Writes the whole answer of a command as JSON, for programs; writes nothing for people. */
  document(value: unknown): void {
    if (this.json) this.#write(`${JSON.stringify(value, replacer, 2)}\n`)
  }

  /** Writes text or bytes unchanged, with JSON and without. */
  raw(content: string | Uint8Array): void {
    this.#write(content)
  }

  paint(tone: Tone, text: string): string {
    return this.#colour ? styleText(STYLES[tone], text, { validateStream: false }) : text
  }

  heading(text: string): void {
    this.line(this.paint('strong', text))
  }

  /** Writes columns of equal width, with numbers to the right. Writes the line `none` when there are no rows. */
  table(headers: readonly string[], rows: readonly (readonly Cell[])[], none = 'none'): void {
    if (rows.length === 0) return this.line(`  ${this.paint('faint', none)}`)
    const texts = rows.map((row) => row.map(String))
    const widths = headers.map((header, i) => Math.max(header.length, ...texts.map((row) => width(row[i] ?? ''))))
    const sides = headers.map((_, i) => (rows.every((row) => isNumeric(row[i])) ? 'right' : 'left'))
    const render = (cells: readonly string[]): string =>
      cells
        .map((cell, i) => pad(cell, widths[i]!, sides[i]!))
        .join('  ')
        .trimEnd()
    this.line(`  ${this.paint('faint', render(headers))}`)
    for (const row of texts) this.line(`  ${render(row)}`)
  }
}

export type Cell = string | number

function replacer(_: string, value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries(value as Map<string, unknown>)
  return value instanceof Set ? [...value] : value
}

function isNumeric(cell: Cell | undefined): boolean {
  return typeof cell === 'number' || /^(-|[\d,.]+( (%|[kMGT]?B|ms|s|min|h|d|\/s))?)$/.test(plain(cell ?? ''))
}

function plain(text: string): string {
  return stripVTControlCharacters(text)
}

function width(text: string): number {
  return plain(text).length
}

function pad(text: string, columns: number, side: 'left' | 'right'): string {
  const space = ' '.repeat(Math.max(0, columns - width(text)))
  return side === 'right' ? space + text : text + space
}

/** `1,234,567` */
export function count(n: number): string {
  return Math.round(n).toLocaleString('en-US')
}

/** `12.3 MB`; powers of 1024, as Redis and PostgreSQL count. */
export function bytes(n: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let unit = 0
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024
    unit++
  }
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`
}

/** `850 ms`, `12 s`, `3.5 min`, `2.1 h`, `4.0 d`; `-` for none. */
export function duration(seconds: number | undefined): string {
  if (seconds === undefined || !Number.isFinite(seconds)) return '-'
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`
  if (seconds < 120) return `${Math.round(seconds)} s`
  if (seconds < 7_200) return `${(seconds / 60).toFixed(1)} min`
  if (seconds < 172_800) return `${(seconds / 3_600).toFixed(1)} h`
  return `${(seconds / 86_400).toFixed(1)} d`
}

/** A text that may come from anybody, for one line of a terminal: no control characters, at most `max`. */
export function oneLine(text: string, max = 160): string {
  const safe = stripVTControlCharacters(text).replaceAll(/[\p{Cc}\p{Cf}]+/gu, ' ')
  return safe.length > max ? `${safe.slice(0, max - 1)}…` : safe
}
