/**
 * `sluice identity import`: loads a PLC directory's export into the database, so that handles are verified without a
 * request for each account.
 */
import { accessSync, constants, statSync } from 'node:fs'
import { HttpClient } from '@sluice/atproto/http.ts'
import { plcExportLines } from '@sluice/atproto/plc-export.ts'
import { importIdentities } from '@sluice/indexing/identity-import.ts'
import { time } from '../arguments.ts'
import { CannotError, EXIT, examples, type Add } from '../cli.ts'
import { count } from '../output.ts'
import type { Session } from '../session.ts'

export const addIdentity: Add = (cli, parent) => {
  parent
    .command('identity')
    .description('what is known of accounts before anybody asks')
    .addHelpText('after', examples(['sluice identity import plc.jsonl.gz', "a PLC directory's export"]))
    .command('import <source>')
    .description("read a PLC directory's export: a file, a URL of one, or a directory's /export; safe to repeat")
    .option('--after <time>', 'go on after this createdAt, as an earlier import told (only for /export)', time)
    .addHelpText(
      'after',
      examples(
        ['sluice identity import plc.jsonl.gz', 'a file, gzipped or not'],
        ['sluice identity import https://plc.directory/export --after 2026-11-01T00:00:00.000Z', 'what is new since'],
      ),
    )
    .action((source: string, { after }: { after?: string }) => cli.run((session) => load(session, source, after)))
}

async function load(session: Session, source: string, after: string | undefined): Promise<number> {
  const { out, settings, signal } = session
  assertReadable(source)
  const db = await session.db()
  await using stack = new AsyncDisposableStack()
  const http = stack.adopt(
    new HttpClient({
      allowPrivate: settings.allowPrivate,
      allowOrigins: [settings.plcUrl],
    }),
    (client) => client.close(),
  )
  const lines = plcExportLines(source, { http, signal, ...(after !== undefined && { after }) })
  const told = await importIdentities(db, lines, {
    signal,
    onProgress: ({ operations, newest }) => out.line(`${count(operations)} operations, to ${newest ?? 'none'}`),
  })
  out.document({ ...told })
  out.line(
    `${count(told.stored)} identities stored of ${count(told.operations)} operations; ${count(told.refused)} lines are no operations. ` +
      `Newest: ${told.newest ?? 'none'}`,
  )
  return told.refused > 0 ? EXIT.found : EXIT.done
}

/** @throws CannotError for a file that does not exist, or that we may not read */
function assertReadable(source: string): void {
  if (/^https?:\/\//.test(source)) return
  try {
    accessSync(source, constants.R_OK)
  } catch (error) {
    throw new CannotError(`cannot read ${source}: ${(error as Error).message}`, { cause: error })
  }
  if (statSync(source).isDirectory()) throw new CannotError(`cannot read ${source}: it is a directory`)
}
