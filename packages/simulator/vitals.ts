/**
 * What a system may leak, looked at while nothing is under way: memory and descriptors of each daemon, keys of Redis,
 * connections and small tables of PostgreSQL.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { heldMb } from './held-memory.ts'
import { DATABASE, type System } from './system.ts'

/** What is counted, by what it is of: `indexer one: held MB` → 41.2. */
export type Vitals = ReadonlyMap<string, number>

/** Rows that come and go. Those of other tables are as many as there are accounts, records and deletions. */
const QUEUES = ['account_check', 'account_deletion', 'handle_check', 'settle_later', 'duplicate_record', 'past_fact']

export async function vitalsOf(system: System): Promise<Vitals> {
  const found = new Map<string, number>()
  for (const { name, daemon } of system.slots) {
    const { pid } = daemon!
    found.set(`${name}: held MB`, await heldMb(daemon!))
    found.set(`${name}: resident MB`, residentMb(pid))
    found.set(`${name}: descriptors`, readdirSync(`/proc/${pid}/fd`).length)
  }
  for await (const keys of system.client.scanIterator({ COUNT: 1_000 })) {
    for (const key of keys) {
      const kind = `redis: keys ${key.replace(/^(sluice:\w+:)\w+$/, '$1*').replace(/localhost:\d+$/, '<host>')}`
      found.set(kind, (found.get(kind) ?? 0) + 1)
    }
  }
  const info = await system.client.info('memory')
  found.set('redis: MB', Number(/used_memory:(\d+)/.exec(info)![1]) / 2 ** 20)
  const sessions = await system.postgres.query<{ name: string; n: number }>(
    `select application_name as name, count(*)::int as n from pg_stat_activity where datname = $1 group by 1`,
    [DATABASE],
  )
  for (const { name, n } of sessions) found.set(`postgres: sessions of ${name}`, n)
  await using db = system.openDatabase()
  for (const table of QUEUES) {
    const { rows } = await db.query<{ n: number }>(`select count(*)::int as n from ${table}`)
    found.set(`postgres: rows of ${table}`, rows[0]!.n)
  }
  return found
}

/**
 * Vitals of daemons and connections that grew by more than they may, from one quiet moment to another. Numbers of rows
 * and keys are not compared: they are for the reader of the report.
 */
export function grown(first: Vitals, last: Vitals): string[] {
  return ROOMS.flatMap(({ what, room }) =>
    [...last].flatMap(([name, now]) => {
      const before = first.get(name)
      if (!what.test(name) || before === undefined || now <= before + room) return []
      return [`${name} was ${before.toFixed(0)}, and is ${now.toFixed(0)} now`]
    }),
  )
}

/** Batches on their way and what V8 has compiled make memory swing; pools open connections as they need them. */
const ROOMS = [
  { what: /held MB$/, room: 12 },
  { what: /descriptors$/, room: 16 },
  { what: /sessions of sluice-indexer/, room: 12 },
  { what: /^redis: MB$/, room: 16 },
]

/** Resident memory of a process. */
export function residentMb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024
}
