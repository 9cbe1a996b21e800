/**
 * A real labeler: npm `@atproto/ozone`, which signs labels and serves `com.atproto.label.subscribeLabels`.
 *
 * It needs a PostgreSQL database of its own, which the sandbox has anyway. Measured: 0.9 s to load, 0.5 s to boot with
 * all its migrations, 15 MB; a label takes 3 ms. A lighter labeler of our own would be one more program to trust.
 *
 * Its stream keeps one row per (src, uri, cid, val): a cursor from before a negation sees the negation only.
 */
import { Secp256k1Keypair } from '@atproto/crypto'
import { Database, envToCfg, envToSecrets, OzoneService } from '@atproto/ozone'
import { Client, didForCreateOp, signOperation } from '@did-plc/lib'
import type { ClientBase } from 'pg'
import { onLoopback } from './loopback.ts'
import { freePort, releasePort } from './ports.ts'

export interface LabelRequest {
  /** AT URI or DID. */
  uri: string
  /** Only this version of the record. */
  cid?: string
  val: string
  /** Takes the label back. */
  negate?: boolean
  /** Ends so many hours from now; a negative number makes one that has ended. */
  hours?: number
}

type OzoneEnvironment = Parameters<typeof envToCfg>[0]
type Did = NonNullable<OzoneEnvironment['serverDid']>
type Uri = `${string}:${string}`

export class Labeler {
  readonly did: Did
  readonly url: string
  readonly #port: number
  readonly #service: OzoneService

  private constructor(did: Did, port: number, service: OzoneService) {
    this.did = did
    this.url = urlOf(port)
    this.#port = port
    this.#service = service
  }

  /** @param databaseUrl an empty database */
  static async start(plcUrl: string, databaseUrl: string): Promise<Labeler> {
    const port = await freePort()
    const key = await Secp256k1Keypair.create({ exportable: true })
    const did = await register(plcUrl, key, urlOf(port))
    const database = new Database({ url: databaseUrl, schema: 'ozone' })
    await database.migrateToLatestOrThrow()
    await database.close()
    const environment: OzoneEnvironment = {
      devMode: true,
      port,
      publicUrl: urlOf(port),
      serverDid: did,
      didPlcUrl: plcUrl,
      dbPostgresUrl: databaseUrl,
      dbPostgresSchema: 'ozone',
      signingKeyHex: Buffer.from(await key.export()).toString('hex'),
      adminPassword: 'sandbox',
      adminDids: [],
      moderatorDids: [],
      triageDids: [],
      appviewUrl: 'https://appview.invalid',
      appviewDid: 'did:example:invalid',
      appviewPushEvents: false,
    }
    const service = await OzoneService.create(envToCfg(environment), envToSecrets(environment))
    onLoopback(service.app)
    await service.start()
    // The service's start does not wait for its LISTEN. If it is closed before the LISTEN is done, the whole process
    // crashes. Queries are answered in order, so a query here waits for it.
    const { conn } = service.ctx.sequencer as unknown as { conn: ClientBase }
    await conn.query('SELECT 1')
    return new Labeler(did, port, service)
  }

  /** Signs and publishes one label; returns it as published. */
  async label({ uri, cid, val, negate, hours }: LabelRequest): Promise<PublishedLabel> {
    const { ctx } = this.#service
    const [label] = await ctx
      .modService(ctx.db)
      .formatAndCreateLabels(uri as Uri, cid ?? null, { [negate ? 'negate' : 'create']: [val] }, hours)
    return label!
  }

  async close(): Promise<void> {
    await this.#service.destroy()
    releasePort(this.#port)
  }
}

/** com.atproto.label.defs#label */
export interface PublishedLabel {
  src: string
  uri: string
  cid?: string
  val: string
  neg?: boolean
  cts: string
  exp?: string
}

function urlOf(port: number): string {
  return `http://localhost:${port}`
}

/** A DID whose document names the labeler's key and endpoint: consumers check the signature of labels against it. */
async function register(plcUrl: string, key: Secp256k1Keypair, endpoint: string): Promise<Did> {
  const operation = await signOperation(
    {
      type: 'plc_operation',
      alsoKnownAs: [],
      rotationKeys: [key.did()],
      verificationMethods: { atproto_label: key.did() },
      services: { atproto_labeler: { type: 'AtprotoLabeler', endpoint } },
      prev: null,
    },
    key,
  )
  const did = await didForCreateOp(operation)
  await new Client(plcUrl).sendOperation(did, operation)
  return did as Did
}
