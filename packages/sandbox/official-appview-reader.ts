/**
 * The official AppView as a reader: its data plane and its API on any database that has its tables, for example ours.
 * It writes nothing there and migrates nothing.
 *
 * It is configured like another AppView that the caller names: same DID, same addresses of pictures, same labelers. So
 * the answers of both can be compared. Boots in 0.2 s.
 */
import { mockNetworkUtilities, TestPds as DevPds, type TestBsky } from '@atproto/dev-env'
import { BskyAppView, Database, DataPlaneServer, ServerConfig, type ServerConfigValues } from '@atproto/bsky'
import type { Network } from './network.ts'
import type { OfficialAppView } from './official-appview.ts'
import { freePort, releasePort } from './ports.ts'

export interface OfficialReaderOptions {
  network: Network
  model: OfficialAppView
  postgresUrl: string
  /** Default `bsky`. */
  schema?: string
}

export interface OfficialReader extends AsyncDisposable {
  /** Its XRPC API. */
  url: string
}

export async function startOfficialReader(options: OfficialReaderOptions): Promise<OfficialReader> {
  const { network, model, postgresUrl, schema = 'bsky' } = options
  const [port, dataPort] = [await freePort(), await freePort()]
  const db = new Database({ url: postgresUrl, schema, poolSize: 4 })
  const dataplane = await DataPlaneServer.create(db, dataPort, network.plcUrl, globalThis.fetch)
  const values = (model.program.ctx.cfg as unknown as { cfg: ServerConfigValues }).cfg
  const config = new ServerConfig({ ...values, port, dataplaneUrls: [`http://localhost:${dataPort}`] })
  const server = BskyAppView.create({ config, signingKey: model.program.ctx.signingKey })
  const { pds } = network
  mockNetworkUtilities(new DevPds(pds.url, Number(new URL(pds.url).port), pds.server), {
    ctx: server.ctx,
    dataplane,
  } as unknown as TestBsky)
  await server.start()
  return {
    url: `http://localhost:${port}`,
    async [Symbol.asyncDispose]() {
      await server.destroy()
      await dataplane.destroy()
      await db.close()
      for (const used of [port, dataPort]) releasePort(used)
    },
  }
}
