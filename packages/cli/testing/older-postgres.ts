/**
 * A proxy in front of PostgreSQL that makes it look like another version: it replaces the version number in each answer
 * and passes on everything else.
 */
import { queryOnce } from '@sluice/sandbox/postgres.ts'
import { between, type Between } from './between.ts'

export interface OlderPostgres extends Between {
  /** How often the number was replaced. */
  told: number
}

/** @param number in the form of `server_version_num`, with as many digits as the server's */
export async function olderPostgres(target: string, number: string): Promise<OlderPostgres> {
  const [real] = await queryOnce<{ number: string }>(target, `select current_setting('server_version_num') as number`)
  const proxy = await between(target, (bytes, send) => {
    const at = bytes.indexOf(real!.number)
    if (at >= 0) older.told++
    if (at >= 0) bytes.write(number, at)
    send(bytes)
  })
  const older: OlderPostgres = Object.assign(proxy, { told: 0 })
  return older
}
