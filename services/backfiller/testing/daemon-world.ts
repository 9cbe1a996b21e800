/** Redis, a network that misbehaves on demand, and backfillers as processes beside them. */
import { startDaemon, type Daemon } from '@sluice/sandbox/daemon.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'

export interface DaemonWorld {
  redis: Redis
  network: FakeNetwork
  /** Starts a backfiller called `one`. */
  start(env?: Record<string, string>): Promise<Daemon>
}

/** @param onCleanup gets what ends the network and the connection */
export async function daemonWorld(
  redisUrl: string,
  onCleanup: (end: () => Promise<void>) => void,
): Promise<DaemonWorld> {
  const network = await FakeNetwork.start()
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  onCleanup(async () => {
    redis.destroy()
    await network[Symbol.asyncDispose]()
  })
  const env = { REDIS_URL: redisUrl, PLC_URL: network.plcUrl, BACKFILLER_CONSUMER: 'one', ALLOW_PRIVATE_HOSTS: 'true' }
  return { redis, network, start: (more) => startDaemon({ role: 'backfiller', env: { ...env, ...more } }) }
}
