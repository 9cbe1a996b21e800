/**
 * Cursors. The cursor of an upstream is the last position of which it is certain that everything up to it is in Redis.
 * `0` is a cursor (the oldest there is). An absent cursor means something else: the upstream was never read. A cursor
 * moves in the same step as the entries it stands for (`Producer.append`).
 */
import { classified, type Redis } from './connection.ts'

/** The cursor value of an enumeration that has seen its last page. */
export const INGESTER_DONE = '!ingester-done'

/** `<stream>:cursor:<host>`, host without scheme, as other tools write it. */
export function cursorKey(stream: string, host: string): string {
  return `${stream}:cursor:${hostOf(host)}`
}

/**
 * `<stream>:time:<host>`: when the event at the cursor happened (ISO 8601), as its host says. Moves with the cursor.
 */
export function timeKey(stream: string, host: string): string {
  return `${stream}:time:${hostOf(host)}`
}

/**
 * `wss://Relay.example/` → `relay.example`; a port stays, even `:443`. The ingester reads the name of an upstream in
 * the same way (`parseUpstream`), so a program that looks for its cursors by the name in `RELAY_HOSTS` finds the same
 * key.
 */
export function hostOf(url: string): string {
  const name = url.replace(/^[a-z]+:\/\//i, '').replace(/\/+$/, '')
  const web = `http://${name}`
  return URL.canParse(web) ? new URL(web).host : name
}

/** The cursor, or null when there is none. */
export async function readCursor(redis: Redis, key: string): Promise<string | null> {
  return await classified(redis.get(key))
}
