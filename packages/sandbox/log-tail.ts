/** The last lines a child wrote: bounded, searchable, and shown when something fails. */

const KEPT_LINES = 2_000
const LINE_CHARACTERS = 8_192

export class LogTail {
  readonly #lines: string[] = []
  readonly #listeners = new Set<(line: string) => void>()
  /** Lines ever written, kept or not. */
  total = 0

  /** Returns a sink for one stream of the child; chunks may end inside a line. */
  sink(): (chunk: Buffer | string) => void {
    let rest = ''
    const decoder = new TextDecoder()
    return (chunk) => {
      const parts = (rest + (typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true }))).split('\n')
      rest = parts.pop()!.slice(0, LINE_CHARACTERS)
      for (const line of parts) this.#add(line)
    }
  }

  get lines(): readonly string[] {
    return this.#lines
  }

  /** The last `count` lines as one text. */
  tail(count = 40): string {
    return this.#lines.slice(-count).join('\n')
  }

  /** Calls back for each new line; returns what ends it. */
  onLine(listener: (line: string) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #add(line: string): void {
    const kept = line.slice(0, LINE_CHARACTERS)
    this.total++
    this.#lines.push(kept)
    if (this.#lines.length > KEPT_LINES) this.#lines.splice(0, this.#lines.length - KEPT_LINES)
    for (const listener of this.#listeners) listener(kept)
  }
}
