/**
 * The Lua scripts of this package, and the function that runs a script (of a service too): by its hash, and by its text
 * when the server does not know the hash yet.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { RESP_TYPES } from 'redis'
import type { Redis } from './connection.ts'

export interface Script {
  name: string
  text: string
  sha: string
}

/** A script from a file. */
export function loadScript(file: URL): Script {
  const text = readFileSync(file, 'utf8')
  return { name: basename(file.pathname, '.lua'), text, sha: createHash('sha1').update(text).digest('hex') }
}

const load = (name: string): Script => loadScript(new URL(`./lua/${name}.lua`, import.meta.url))

export const scripts = {
  append: load('append'),
  ack: load('ack'),
  bury: load('bury'),
  census: load('census'),
  claim: load('claim'),
  group: load('group'),
  incident: load('incident'),
  fillIdentity: load('fill-identity'),
  lease: load('lease'),
  oldestRetried: load('oldest-retried'),
  purgeIdentity: load('purge-identity'),
  readHashes: load('read-hashes'),
  refused: load('refused'),
  release: load('release'),
  retire: load('retire'),
  retryLetter: load('retry-letter'),
  suspect: load('suspect'),
} as const

/** Makes strings of the reply arrive as Buffers. */
export const BINARY = { [RESP_TYPES.BLOB_STRING]: Buffer }

/** Like `runScript`, for replies that contain bytes. */
export async function runBinaryScript(
  redis: Redis,
  script: Script,
  keys: string[],
  args: (string | Buffer)[],
): Promise<unknown> {
  return runScript(redis.withTypeMapping(BINARY), script, keys, args)
}

/** Runs a script. Values are sent unchanged, so binary arguments must be Buffers. */
export async function runScript(
  redis: Pick<Redis, 'sendCommand'>,
  script: Script,
  keys: string[],
  args: (string | Buffer)[],
): Promise<unknown> {
  const rest = [String(keys.length), ...keys, ...args]
  try {
    return await redis.sendCommand(['EVALSHA', script.sha, ...rest])
  } catch (error) {
    if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error
    return redis.sendCommand(['EVAL', script.text, ...rest])
  }
}
