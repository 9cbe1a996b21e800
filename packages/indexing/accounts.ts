/**
 * Account events: `active` decides whether an account is visible, `status` says why not; one that we do not know is kept as it is. They carry no rev, so
 * of several the one with the latest time counts (the PDS's clock, which every relay passes on unchanged), in any order of arrival; of two at the same time
 * that which hides.
 *
 * "Deleted" hides at once, and asks for the deletion to be confirmed and carried out beside the data path (`purge.ts`). Whatever else comes later takes
 * that back, and asks for the repository again. `takedownRef` is the AppView's own moderation, and never touched.
 */
import type { Transaction } from '@sluice/database/transaction.ts'
import type { AccountEvent } from '@sluice/events/stream-event.ts'
import type { Prepared } from './prepare.ts'

export const DELETED = 'deleted'

/** Statements are sent, not awaited: the transaction awaits them. The accounts must be owned by it. */
export function applyAccounts(tx: Transaction, { accounts }: Pick<Prepared, 'accounts'>): void {
  const events = latestOf(accounts)
  if (events.length === 0) return
  void tx.query(APPLY_ACCOUNTS, [
    events.map((e) => e.did),
    events.map((e) => e.time),
    events.map(upstreamStatus),
    new Date().toISOString(),
  ])
}

/** One event for each account, by DID: the order of locks. */
function latestOf(accounts: readonly AccountEvent[]): AccountEvent[] {
  const latest = new Map<string, AccountEvent>()
  for (const event of accounts) {
    const seen = latest.get(event.did)
    if (!seen || orderOf(event) >= orderOf(seen)) latest.set(event.did, event)
  }
  return [...latest.values()].sort((a, b) => (a.did < b.did ? -1 : 1))
}

function orderOf(event: AccountEvent): string {
  return `${event.time} ${upstreamStatus(event) ?? ''}`
}

/** What `actor.upstreamStatus` holds: null for an active account, whatever its status says. */
export function upstreamStatus({ active, status }: AccountEvent): string | null {
  if (active) return null
  return status ?? 'deactivated'
}

/**
 * All parts see the tables as they were before the statement. While a purge is under way its claim stands, so that whoever purges has stopped before the
 * repository is asked for again. A deletion that is reported again is still one that nobody has confirmed so far.
 */
const APPLY_ACCOUNTS = {
  name: 'apply-accounts',
  text: `
    with news as (
      update actor_sync held set "accountAt" = news.at
      from unnest($1::text[], $2::text[], $3::text[]) as news (did, at, status)
        left join account_deletion gone on gone.did = news.did
        left join actor on actor.did = news.did
      where held.did = news.did and (held."accountAt" is null or held."accountAt" < news.at
        or (held."accountAt" = news.at and coalesce(actor."upstreamStatus", '') < coalesce(news.status, '')))
      returning held.did, news.at, news.status, gone.state
    ), reported as (
      insert into account_deletion as held (did, state, "deletedAt", "dueAt", tries)
      select did, 'reported', at, $4, 0 from news where status = '${DELETED}' order by did
      on conflict (did) do update set state = 'reported', "deletedAt" = excluded."deletedAt", "dueAt" = excluded."dueAt",
        tries = case held.state when 'reported' then held.tries else 0 end
      where held."deletedAt" < excluded."deletedAt"
    ), returned as (
      update account_deletion held set state = 'returned', "dueAt" = case when held.state = 'purging' then held."dueAt" else $4 end
      from news where held.did = news.did and news.status is distinct from '${DELETED}'
    ), asked as (
      insert into handle_check (did, queue, "dueAt", "askedAt", tries)
      select did, 'new', $4, '', 0 from news
      where status is distinct from '${DELETED}' and state = 'purged' order by did on conflict (did) do nothing
    )
    insert into actor (did, "indexedAt", "upstreamStatus")
    select did, at, status from news where status is distinct from '${DELETED}' or state is distinct from 'purged' order by did
    on conflict (did) do update set "upstreamStatus" = excluded."upstreamStatus"`,
}
