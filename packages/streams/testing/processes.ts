/** Starts `consumer-process.ts` and `producer-process.ts`, and reads what they did. */
import { fileURLToPath } from 'node:url'
import { Child, sharedEnvironment } from '@sluice/sandbox/children.ts'
import type { Redis } from '../connection.ts'
import type { ConsumerLimits } from '../consumer.ts'
import { address, QUICK } from './fixtures.ts'

const program = (name: string): string => fileURLToPath(new URL(`${name}.ts`, import.meta.url))

export interface ProcessOptions {
  url: string
  consumer: string
  /** The streams that the process reads, each with a consumer of its own. */
  streams?: readonly string[]
  workMs?: number
  limits?: Partial<ConsumerLimits>
  /** Where the process dies: SLUICE_CRASH_POINTS. */
  crashPoints?: string
}

export async function startConsumerProcess(options: ProcessOptions): Promise<Child> {
  const { url, consumer, streams = [address.stream], workMs = 0, limits = {}, crashPoints = '' } = options
  return start(`consumer ${consumer}`, 'consumer-process', {
    SLUICE_TEST_URL: url,
    SLUICE_TEST_CONSUMER: consumer,
    SLUICE_TEST_STREAMS: streams.join(','),
    SLUICE_TEST_WORK_MS: String(workMs),
    SLUICE_TEST_LIMITS: JSON.stringify({ ...QUICK, ...limits }),
    SLUICE_CRASH_POINTS: crashPoints,
  })
}

/** Starts a producer process that ends by itself when so many events are appended. */
export async function startProducerProcess(url: string, events: number, crashPoints = ''): Promise<Child> {
  return start('producer', 'producer-process', {
    SLUICE_TEST_URL: url,
    SLUICE_TEST_EVENTS: String(events),
    SLUICE_CRASH_POINTS: crashPoints,
  })
}

async function start(name: string, file: string, env: Record<string, string>): Promise<Child> {
  return Child.start({
    name,
    command: process.execPath,
    args: [program(file)],
    env: { ...sharedEnvironment(), ...env },
  })
}

/** The events that were processed, in order, and by which process. */
export async function processed(redis: Redis): Promise<{ n: number; by: string }[]> {
  const lines = await redis.lRange('processed', 0, -1)
  return lines.map((line) => {
    const [n, by = ''] = line.split(' ')
    return { n: Number(n), by }
  })
}
