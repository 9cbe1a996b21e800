/** Starts `consumer-process.ts`, and reads what it did. */
import { fileURLToPath } from 'node:url'
import { Child } from '@sluice/sandbox/children.ts'
import type { Redis } from '../connection.ts'
import type { ConsumerLimits } from '../consumer.ts'
import { QUICK } from './fixtures.ts'

const PROGRAM = fileURLToPath(new URL('consumer-process.ts', import.meta.url))

export interface ProcessOptions {
  url: string
  consumer: string
  workMs?: number
  limits?: Partial<ConsumerLimits>
}

export async function startConsumerProcess({ url, consumer, workMs = 0, limits = {} }: ProcessOptions): Promise<Child> {
  return Child.start({
    name: `consumer ${consumer}`,
    command: process.execPath,
    args: [PROGRAM],
    env: {
      PATH: process.env.PATH,
      SLUICE_TEST_URL: url,
      SLUICE_TEST_CONSUMER: consumer,
      SLUICE_TEST_WORK_MS: String(workMs),
      SLUICE_TEST_LIMITS: JSON.stringify({ ...QUICK, ...limits }),
    },
  })
}

/** What was processed, in order, and by whom. */
export async function processed(redis: Redis): Promise<{ n: number; by: string }[]> {
  const lines = await redis.lRange('processed', 0, -1)
  return lines.map((line) => {
    const [n, by = ''] = line.split(' ')
    return { n: Number(n), by }
  })
}
