/**
 * Account events: `active` decides whether an account is visible, `status` says why not. They carry no rev, so of several the one with the latest
 * time counts (the PDS's clock, which every relay passes on unchanged), in any order of arrival.
 */
import type { Transaction } from '@sluice/database/transaction.ts'
import type { AccountEvent } from '@sluice/events/stream-event.ts'
import type { Prepared } from './prepare.ts'

/** Statements are sent, not awaited: the transaction awaits them. The accounts must be owned by it. */
export function applyAccounts(tx: Transaction, { accounts }: Prepared): void {
  const latest = new Map<string, AccountEvent>()
  for (const event of accounts) {
    const seen = latest.get(event.did)
    if (!seen || event.time >= seen.time) latest.set(event.did, event)
  }
  if (latest.size === 0) return
  const events = [...latest.values()].sort((a, b) => (a.did < b.did ? -1 : 1))
  void tx.query(APPLY_ACCOUNTS, [events.map((e) => e.did), events.map((e) => e.time), events.map(upstreamStatus)])
}

/** What `actor.upstreamStatus` holds: null for an active account, whatever its status says. */
export function upstreamStatus({ active, status }: AccountEvent): string | null {
  if (active) return null
  return status ?? 'deactivated'
}

const APPLY_ACCOUNTS = {
  name: 'apply-accounts',
  text: `
    with news as (
      update actor_sync held set "accountAt" = news.time
      from unnest($1::text[], $2::text[], $3::text[]) as news (did, time, status)
      where held.did = news.did and (held."accountAt" is null or held."accountAt" <= news.time)
      returning held.did, news.status
    )
    update actor set "upstreamStatus" = news.status from news where actor.did = news.did`,
}
