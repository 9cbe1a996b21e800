/** Works off everything that was put off, as the indexer's service does, whether or not it is due. */
import type { Index } from '../apply-batch.ts'
import { claimLater, LATER_QUEUES, settleClaim, type SettleOptions } from '../settle-later.ts'

/** Returns how many claims it took. */
export async function settleAll({ db, collections }: Index, options: SettleOptions = {}): Promise<number> {
  let claims = 0
  for (;;) {
    const before = claims
    for (const queue of LATER_QUEUES) {
      const until = `9998-01-01T00:00:00.000Z ${Math.random()}`
      const [claim] = await claimLater(db, { now: '9999-01-01T00:00:00.000Z', until, limit: 1, queue })
      if (!claim) continue
      claims++
      await settleClaim(db, collections, claim, options)
    }
    if (claims === before) return claims
  }
}
