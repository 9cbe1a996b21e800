/**
 * Entries as Redis hands them out, and the commands that take and give them back for one consumer of one group.
 *
 * Everything is said in commands of Redis 7.0, those that must happen together in a script. Newer servers have commands for some of it (XACKDEL, XREADGROUP
 * CLAIM, XNACK of Redis 8; Valkey has none of them): they would save a script call and change nothing in what is promised, at the price of a second way
 * through each fault that has to be proven again.
 */
import type { EntryFields } from '@sluice/events/codec.ts'
import { classified, classifyRedisError, type Redis } from './connection.ts'
import { leaseKey } from './lease.ts'
import { runScript, scripts } from './scripts.ts'

export interface Entry {
  id: string
  fields: EntryFields
}

export interface Delivered extends Entry {
  /** How often it was handed out, to whomever. */
  deliveries: number
}

export interface GroupAddress {
  stream: string
  group: string
  consumer: string
}

/** An entry in a reply: its id and its fields, flat. */
export type EntryReply = [id: string, fields: string[]]

/** Makes the group, from the beginning of the stream, with the stream when needed. Returns whether it was missing. */
export async function ensureGroup(redis: Redis, { stream, group }: GroupAddress): Promise<boolean> {
  return (await classified(runScript(redis, scripts.group, [stream], [group]))) === 1
}

/**
 * New entries, at most `count`; waits for the first one up to `blockMs`, if given. When it fails, entries may have been delivered to us without our
 * knowing: they are pending under our name.
 */
export async function readNew(redis: Redis, a: GroupAddress, count: number, blockMs?: number): Promise<Entry[]> {
  const limits = ['COUNT', String(count), ...(blockMs === undefined ? [] : ['BLOCK', String(blockMs)])]
  const command = ['XREADGROUP', 'GROUP', a.group, a.consumer, ...limits, 'STREAMS', a.stream, '>']
  // `xReadGroup` would first make objects of another shape: 1.2 µs an entry against 1.05.
  const reply = await classified(redis.sendCommand<Record<string, EntryReply[]> | null>(command))
  return reply === null ? [] : Object.values(reply).flat().map(toEntry)
}

export function toEntry([id, flat]: EntryReply): Entry {
  const fields: EntryFields = {}
  for (let i = 0; i < flat.length; i += 2) fields[flat[i]!] = flat[i + 1]!
  return { id, fields }
}

/** XACK + XDEL in one step. Returns how many were pending. */
export async function ack(redis: Redis, a: GroupAddress, ids: readonly string[]): Promise<number> {
  if (ids.length === 0) return 0
  return Number(await classified(runScript(redis, scripts.ack, [a.stream], [a.group, ...ids])))
}

/**
 * Removes consumers that have nothing pending, have been away for `idleMs` and whose name nobody holds: Redis 7.0 does not count waiting
 * for entries as being there. Returns their names.
 */
export async function retireConsumers(redis: Redis, a: GroupAddress, idleMs: number): Promise<string[]> {
  try {
    const consumers = await redis.xInfoConsumers(a.stream, a.group)
    const gone = consumers.filter((c) => c.name !== a.consumer && c.pending === 0 && c.idle > idleMs)
    const retired = []
    for (const { name } of gone) {
      if ((await redis.exists(leaseKey({ ...a, consumer: name }))) === 1) continue
      if ((await runScript(redis, scripts.retire, [a.stream], [a.group, name])) === 1) retired.push(name)
    }
    return retired
  } catch (error) {
    throw classifyRedisError(error)
  }
}
