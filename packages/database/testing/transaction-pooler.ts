/**
 * A pooler in transaction mode before a real PostgreSQL, as small as can be: it lends a session of the server for one
 * transaction at a time, and prepares nothing itself. It may behave as one in session mode, too, and as one that has no
 * room for another client.
 */
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { Client } from 'pg'

export interface TransactionPooler extends AsyncDisposable {
  /** The server's connection string, by way of the pooler. */
  url: string
  /** Transactions that ran in a session which another client had had before. */
  mixedUp: number
  /** Clients that are connected now. */
  readonly connected: number
  /** The most clients. One more is not served (`beyond`). */
  clientsMax: number
  /** Clients that were not served. */
  turnedAway: number
}

interface ServerSession {
  socket: Socket
  client: Client
  lastUser: Socket | undefined
}

export interface PoolerOptions {
  /** How many the pooler has with the server. A client that finds none waits. */
  sessions: number
  /** Which idle session it lends: the one that was used last, or first. */
  order: 'last' | 'first'
  /** For so many transactions each client gets a session of its own, as if by chance. Default: none. */
  apartFor?: number
  /** As in session mode a client keeps its session until it leaves. Default false. */
  keeps?: boolean
  /** What a client beyond `clientsMax` gets: no answer, or a greeting and the end of its connection. */
  beyond?: 'silence' | 'cut'
}

export async function transactionPooler(
  target: string,
  { sessions, order, apartFor = 0, keeps = false, beyond = 'silence' }: PoolerOptions,
): Promise<TransactionPooler> {
  const idle = await Promise.all(Array.from({ length: sessions }, async () => openSession(target)))
  const all = [...idle]
  const waiting: (() => void)[] = []
  const clients = new Set<Socket>()
  let transactions = 0

  const take = (client: Socket): ServerSession | undefined => {
    if (transactions++ >= apartFor) return order === 'last' ? idle.pop() : idle.shift()
    const own = idle.findIndex(({ lastUser }) => lastUser === client)
    const at = own === -1 ? idle.findIndex(({ lastUser }) => lastUser === undefined) : own
    return at === -1 ? undefined : idle.splice(at, 1)[0]
  }

  const server = createServer((client) => {
    clients.add(client)
    if (clients.size > pooler.clientsMax) return turnAway(client)
    let greeted = false
    let lent: ServerSession | undefined
    let early: Buffer[] = []
    /** Statements that are sent and not answered: a client may send the next before the answer to the last. */
    let open = 0
    const sent = new Frames((type) => void (open += type === QUERY || type === SYNC ? 1 : 0))

    const giveBack = (): void => {
      if (lent === undefined) return
      idle.push(lent)
      lent = undefined
      waiting.shift()?.()
    }
    const borrow = (): void => {
      // It has left while it waited.
      if (!clients.has(client)) return waiting.shift()?.()
      lent = take(client)
      if (lent === undefined) return void waiting.push(borrow)
      const session = lent
      if (session.lastUser !== undefined && session.lastUser !== client) pooler.mixedUp++
      session.lastUser = client
      const frames = new Frames((type, frame) => {
        client.write(frame)
        if (type === READY && --open === 0 && frame[5] === IDLE && !keeps) giveBack()
      })
      session.socket.removeAllListeners('data').on('data', (bytes) => frames.push(bytes))
      for (const bytes of early) session.socket.write(bytes)
      early = []
    }
    client
      .on('error', () => {})
      .on('close', () => {
        clients.delete(client)
        giveBack()
      })
    client.on('data', (bytes: Buffer) => {
      if (!greeted) {
        greeted = true
        client.write(GREETING)
        return
      }
      if (bytes[0] === TERMINATE) return void client.end()
      sent.push(bytes)
      if (lent !== undefined) return void lent.socket.write(bytes)
      early.push(bytes)
      if (early.length === 1) borrow()
    })
  })
  const turnAway = (client: Socket): void => {
    pooler.turnedAway++
    client.on('error', () => {}).on('close', () => clients.delete(client))
    client.once('data', () => void (beyond === 'cut' && client.write(GREETING, () => client.destroy())))
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')

  const url = new URL(target)
  url.port = String((server.address() as AddressInfo).port)
  const pooler: TransactionPooler = {
    url: url.href,
    mixedUp: 0,
    clientsMax: Infinity,
    turnedAway: 0,
    get connected() {
      return clients.size
    },
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.destroy()
      await Promise.all(all.map(async ({ socket }) => closed(socket)))
      server.close()
      await once(server, 'close')
    },
  }
  return pooler
}

async function closed(socket: Socket): Promise<void> {
  socket.end(Buffer.from([TERMINATE, 0, 0, 0, 4]))
  if (!socket.closed) await once(socket, 'close')
}

/** A session that pg has logged in, and does not listen to any more. */
async function openSession(target: string): Promise<ServerSession> {
  const client = new Client({ connectionString: target, application_name: 'pooler' })
  client.on('error', () => {})
  await client.connect()
  const socket = client.connection.stream as Socket
  socket.removeAllListeners('data').resume()
  return { socket, client, lastUser: undefined }
}

const TERMINATE = 0x58
const QUERY = 0x51
const SYNC = 0x53
const READY = 0x5a
const IDLE = 0x49

/** AuthenticationOk, a BackendKeyData that no server gave, ReadyForQuery. */
const GREETING = Buffer.concat([
  Buffer.from('R\0\0\0\x08\0\0\0\0', 'latin1'),
  Buffer.from('K\0\0\0\x0c\x7f\x01\x02\x03\0\0\0\0', 'latin1'),
  Buffer.from('Z\0\0\0\x05I', 'latin1'),
])

/** Cuts the server's bytes into messages: a type, then a length that includes itself. */
class Frames {
  #left: Buffer = Buffer.alloc(0)
  readonly #onFrame: (type: number, frame: Buffer) => void

  constructor(onFrame: (type: number, frame: Buffer) => void) {
    this.#onFrame = onFrame
  }

  push(bytes: Buffer): void {
    let rest = Buffer.concat([this.#left, bytes])
    while (rest.length >= 5 && rest.length > rest.readInt32BE(1)) {
      const end = 1 + rest.readInt32BE(1)
      this.#onFrame(rest[0]!, rest.subarray(0, end))
      rest = rest.subarray(end)
    }
    this.#left = rest
  }
}
