/**
 * A small real network on loopback, offline: PLC directory, PDS, and a labeler if it gets a database.
 *
 * These are the programs of npm, not imitations. They run in this process, and contain no code of ours. The single
 * programs are used rather than `@atproto/dev-env`'s networks, because those listen on all interfaces, leave their data
 * in the temporary directory, and load the AppView as well: 2.5 s and 405 MB against 1.9 s and 330 MB.
 * `official-appview.ts` adds the AppView where it is wanted.
 *
 * The PLC directory lives in memory: another start has other DIDs.
 *
 * Hazard: `@atproto/identity` refuses addresses on loopback, as it should in production. A daemon that resolves
 * identities here must be told so; `PLC_URL` is not enough.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Database, PlcServer } from '@did-plc/server'
import { guardDirectory, unguardDirectory } from './guard.ts'
import { Labeler } from './labeler.ts'
import { onLoopback } from './loopback.ts'
import { TestPds } from './pds.ts'
import { freePort, releasePort } from './ports.ts'

export interface NetworkOptions {
  /** An empty PostgreSQL database for the labeler. Without it the network has no labeler. */
  labelerDatabaseUrl?: string
}

export interface Network extends AsyncDisposable {
  plcUrl: string
  pds: TestPds
  /** @throws Error when the network was started without a database for it */
  labeler: Labeler
  close(): Promise<void>
}

export async function startNetwork({ labelerDatabaseUrl }: NetworkOptions = {}): Promise<Network> {
  const dir = await mkdtemp(join(tmpdir(), 'sluice-network-'))
  guardDirectory(dir)
  await using started = new AsyncDisposableStack()
  started.defer(async () => {
    await rm(dir, { recursive: true, force: true })
    unguardDirectory(dir)
  })

  const plcPort = await freePort()
  const plc = PlcServer.create({ db: Database.mock(), port: plcPort })
  onLoopback(plc.app)
  await plc.start()
  started.defer(async () => {
    await plc.destroy()
    releasePort(plcPort)
  })
  const plcUrl = `http://localhost:${plcPort}`

  const pds = await TestPds.start(dir, plcUrl)
  started.defer(() => pds.close())

  const labeler = labelerDatabaseUrl ? await Labeler.start(plcUrl, labelerDatabaseUrl) : undefined
  if (labeler) started.defer(() => labeler.close())

  const resources = started.move()
  const close = (): Promise<void> => resources.disposeAsync()
  return {
    plcUrl,
    pds,
    get labeler() {
      if (!labeler) throw new Error('this network has no labeler: start it with labelerDatabaseUrl')
      return labeler
    },
    close,
    [Symbol.asyncDispose]: close,
  }
}
