/** Measuring for benches: CPU time, since wall time on a shared machine says little. */

export interface Measure {
  name: string
  /** Microseconds of CPU per operation. */
  micros: number
  /** Operations per second of one core. */
  perSecond: number
}

/** Runs `work` over `items`, again and again for `ms`, after a warm-up of a quarter of that. */
export async function measure<T>(
  name: string,
  items: readonly T[],
  work: (item: T) => unknown,
  { ms = 1_500, perItem = 1 }: { ms?: number; perItem?: number } = {},
): Promise<Measure> {
  await repeat(items, work, ms / 4)
  const before = process.cpuUsage()
  const count = (await repeat(items, work, ms)) * perItem
  const { user, system } = process.cpuUsage(before)
  const micros = (user + system) / count
  return { name, micros, perSecond: 1e6 / micros }
}

async function repeat<T>(items: readonly T[], work: (item: T) => unknown, ms: number): Promise<number> {
  const end = performance.now() + ms
  let count = 0
  while (performance.now() < end) {
    for (const item of items) {
      const result = work(item)
      if (result instanceof Promise) await result
      count++
      if (performance.now() > end) break
    }
  }
  return count
}

/** A table of the measures. Each factor is relative to the first row. */
export function table(title: string, measures: readonly Measure[]): string {
  const rows = measures.map(({ name, micros, perSecond }) => {
    const rate = Math.round(perSecond).toLocaleString('en')
    const factor = (micros / measures[0]!.micros).toFixed(2)
    return `  ${name.padEnd(52)} ${micros.toFixed(2).padStart(10)} µs ${rate.padStart(10)}/s  ×${factor}`
  })
  return ['', title, ...rows].join('\n')
}
