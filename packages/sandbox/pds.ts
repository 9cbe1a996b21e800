/**
 * A real PDS (npm `@atproto/pds`) in this process, offline. To the ingester it is the relay: it serves
 * `subscribeRepos`, `listRepos` and `getRepo` of all its accounts.
 *
 * It can be stopped and started again on its data and port, as a host that is down for a while.
 */
import { randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AtpAgent } from '@atproto/api'
import { Secp256k1Keypair } from '@atproto/crypto'
import { PDS } from '@atproto/pds'
import { onLoopback } from './loopback.ts'
import { freePort, releasePort } from './ports.ts'

type PdsEnvironment = NonNullable<Parameters<typeof PDS.fromEnv>[0]>

/** An account, and an agent that is logged in. */
export interface Account {
  did: string
  handle: string
  agent: AtpAgent
}

const PASSWORD = 'sandbox'

export class TestPds {
  /** `http://localhost:<port>`: what the DID documents of its accounts name. */
  readonly url: `http://localhost:${number}`
  readonly #port: number
  readonly #environment: PdsEnvironment
  #server: PDS | undefined

  private constructor(port: number, environment: PdsEnvironment) {
    this.url = `http://localhost:${port}`
    this.#port = port
    this.#environment = environment
  }

  /** Starts one with its data below `dir`. */
  static async start(dir: string, plcUrl: string): Promise<TestPds> {
    const rotationKey = await Secp256k1Keypair.create({ exportable: true })
    const recoveryKey = await Secp256k1Keypair.create()
    await mkdir(join(dir, 'data'), { recursive: true })
    const port = await freePort()
    const pds = new TestPds(port, {
      devMode: true,
      port,
      dataDirectory: join(dir, 'data'),
      blobstoreDiskLocation: join(dir, 'blobs'),
      blobstoreDiskTmpLocation: join(dir, 'blobs-tmp'),
      didPlcUrl: plcUrl,
      plcRotationKeyK256PrivateKeyHex: Buffer.from(await rotationKey.export()).toString('hex'),
      recoveryDidKey: recoveryKey.did(),
      jwtSecret: randomBytes(16).toString('hex'),
      dpopSecret: randomBytes(32).toString('hex'),
      adminPassword: randomBytes(16).toString('hex'),
      serviceHandleDomains: ['.test'],
      inviteRequired: false,
      rateLimitsEnabled: false,
      // The PDS's peers are on loopback, which its guard against server-side request forgery would refuse.
      disableSsrfProtection: true,
      bskyAppViewUrl: 'https://appview.invalid',
      bskyAppViewDid: 'did:example:invalid',
      modServiceUrl: 'https://moderation.invalid',
      modServiceDid: 'did:example:invalid',
    })
    await pds.start()
    return pds
  }

  /** Starts it again after `stop`. */
  async start(): Promise<void> {
    this.#server = await PDS.fromEnv(this.#environment)
    onLoopback(this.#server.app)
    await this.#server.start()
  }

  /** Stops the server; its data stay. */
  async stop(): Promise<void> {
    await this.#server?.destroy()
    this.#server = undefined
  }

  /** Stops the server for good. */
  async close(): Promise<void> {
    await this.stop()
    releasePort(this.#port)
  }

  /** The program itself, for what no API offers. */
  get server(): PDS {
    if (!this.#server) throw new Error('the PDS is stopped')
    return this.#server
  }

  agent(): AtpAgent {
    return new AtpAgent({ service: this.url })
  }

  /** A new account; `name` becomes `name.test`, and has three characters or more. */
  async createAccount(name: string): Promise<Account> {
    const agent = this.agent()
    const handle = `${name}.test`
    const { data } = await agent.createAccount({ handle, email: `${name}@mail.test`, password: PASSWORD })
    return { did: data.did, handle, agent }
  }

  /** Deletes the account for good: tombstone on the firehose, repository gone. */
  async deleteAccount(did: string): Promise<void> {
    await this.#admin('com.atproto.admin.deleteAccount', { did })
  }

  /** Takes the account down, or restores it. */
  async takeDown(did: string, applied: boolean): Promise<void> {
    const takedown = applied ? { applied, ref: 'sandbox' } : { applied }
    await this.#admin('com.atproto.admin.updateSubjectStatus', {
      subject: { $type: 'com.atproto.admin.defs#repoRef', did },
      takedown,
    })
  }

  async #admin(method: string, input: object): Promise<void> {
    const authorization = `Basic ${Buffer.from(`admin:${this.#environment.adminPassword}`).toString('base64')}`
    await this.agent().call(method, {}, input, { encoding: 'application/json', headers: { authorization } })
  }
}
