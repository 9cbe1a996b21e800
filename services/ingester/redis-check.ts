/** Checks whether the settings of this Redis may lose data; reports that, or refuses to start. */
import { retry } from '@sluice/runtime/backoff.ts'
import { FatalError } from '@sluice/runtime/errors.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import { REDIS_BACKOFF, type Redis } from '@sluice/streams/connection.ts'
import { recordIncident, type CountIncident } from '@sluice/streams/incidents.ts'
import { checkRedisSettings } from '@sluice/streams/redis-settings.ts'

/** @throws FatalError when `isStrict` and data can be lost; AbortError on the signal */
export async function checkRedis(
  redis: Redis,
  { isStrict, log, countIncident }: { isStrict: boolean; log: Logger; countIncident: CountIncident },
  signal: AbortSignal,
): Promise<void> {
  const check = async (): Promise<void> => {
    const problems = await checkRedisSettings(redis)
    for (const { setting, detail, losesData } of problems) log[losesData ? 'error' : 'warn']({ setting }, detail)
    const losses = problems.filter(({ losesData }) => losesData).map(({ detail }) => detail)
    if (losses.length === 0) return
    const what = losses.join(' ')
    if (isStrict) throw new FatalError(`${what} (REDIS_STRICT is set)`)
    const incident = { kind: 'redis-settings', role: 'ingester', what, action: 'goes on all the same' } as const
    await recordIncident(redis, incident, countIncident)
  }
  await retry(signal, REDIS_BACKOFF, check, ({ error, delayMs }) =>
    logRetry(log, delayMs, 'checking Redis failed', error),
  )
}
