/**
 * Account events: `active` decides whether an account is visible, `status` says why not. An unknown status is kept as
 * it is. Account events carry no rev. So of several events the one with the latest time counts, in any order of
 * arrival; the time is the PDS's clock, which every relay passes on unchanged. Of two events at the same time the one
 * that hides the account counts.
 *
 * That is right as long as one clock dates the events. But several do: those of all hosts that the account has had, the
 * relay's, and ours when we have asked. So whenever an event says something else than the index holds, the account's
 * own host is asked, whichever of the two counts by time (`account-checks.ts`). Its answer stands until more news come.
 *
 * "Deleted" hides the account at once. The deletion is then confirmed and carried out beside the data path
 * (`purge.ts`). Any other status that comes later takes the deletion back, and asks for the repository again.
 * `takedownRef` is the AppView's own moderation, and is never touched.
 */
import { keyed } from '@sluice/collections/by-key.ts'
import type { Transaction } from '@sluice/database/transaction.ts'
import type { AccountEvent } from '@sluice/events/stream-event.ts'
import type { Prepared } from './prepare.ts'

export const DELETED = 'deleted'

/**
 * Writes the newest account event of each account. Statements are sent, not awaited: the transaction awaits them. The
 * transaction must own the accounts.
 */
export function applyAccounts(tx: Transaction, { accounts }: Pick<Prepared, 'accounts'>): void {
  const events = latestOf(accounts)
  if (events.length === 0) return
  const nowMs = Date.now()
  const doubted = contradicted(accounts)
  void tx.query(APPLY_ACCOUNTS, [
    events.map((e) => e.did),
    events.map((e) => e.time),
    events.map(upstreamStatus),
    new Date(nowMs).toISOString(),
    events.map(({ did }) => doubted.has(did)),
    askTimes(nowMs),
  ])
}

/**
 * How long after the news the host is asked. A host that announces a change before it carries the change out has done
 * so by then.
 */
const ASK_MS = 2_000
/**
 * Each question doubles the wait for the next, up to 68 minutes. So an account that goes and comes all day is asked
 * about only now and then.
 */
const DOUBLINGS = 11

/** When an account is asked about next. The index is how often it has been asked about. */
function askTimes(nowMs: number): string[] {
  return Array.from({ length: DOUBLINGS + 1 }, (_, tries) => new Date(nowMs + ASK_MS * 2 ** tries).toISOString())
}

/** Accounts about which these events say different things. */
function contradicted(accounts: readonly AccountEvent[]): ReadonlySet<string> {
  const said = Map.groupBy(accounts, ({ did }) => did)
  return new Set([...said].flatMap(([did, events]) => (new Set(events.map(upstreamStatus)).size > 1 ? [did] : [])))
}

/** The event that counts for each account, sorted by DID: the order of locks. */
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

/**
 * The status that the index holds of an account, in SQL. A purged account has no row in `actor`, unless it is taken
 * down.
 */
export const HELD_STATUS = `case when gone.state = 'purged' then '${DELETED}' else actor."upstreamStatus" end`

/** The value for `actor.upstreamStatus`: null for an active account, whatever its status says. */
export function upstreamStatus({ active, status }: AccountEvent): string | null {
  if (active) return null
  return status ?? 'deactivated'
}

/**
 * All parts of the statement see the tables as they were before it.
 *
 * `reported`, `returned`: while a purge is under way its claim stands, so that the purge has stopped before the
 * repository is asked for again. A deletion that is reported again stays among those that nobody could confirm so far:
 * it keeps its `tries`.
 *
 * `visible`: the host of a hidden account answers for none of its handles. So no handle was verified meanwhile, perhaps
 * for months, and the next check is as far off. An account that is visible again is due at once, and a check that is
 * under way is void. Not every host announces the identity again: a PDS does not when a takedown is lifted.
 *
 * `doubted`: accounts of which an event says something else than the index holds. Also accounts that are being asked
 * about, whatever the event says: the host may have answered before it. That makes the claim void. It never moves
 * `dueAt` to later, so an account with news without end is asked about all the same.
 */
const APPLY_ACCOUNTS = {
  name: 'apply-accounts',
  text: `
    with news as (
      update actor_sync held set "accountAt" = news.at
      from (
        select did, at, status,
          (select state from account_deletion where did = said.did) as state, (select "upstreamStatus" from actor where did = said.did) as before
        from unnest($1::text[], $2::text[], $3::text[]) as said (did, at, status) offset 0
      ) news
      where ${keyed('held.did', 'news.did')} and (held."accountAt" is null or held."accountAt" < news.at
        or (held."accountAt" = news.at and coalesce(news.before, '') < coalesce(news.status, '')))
      returning held.did, news.at, news.status, news.state, news.before
    ), reported as (
      insert into account_deletion as held (did, state, "deletedAt", "dueAt", tries)
      select did, 'reported', at, $4, 0 from news where status = '${DELETED}' order by did
      on conflict (did) do update set state = 'reported', "deletedAt" = excluded."deletedAt", "dueAt" = excluded."dueAt",
        tries = case held.state when 'reported' then held.tries else 0 end
      where held."deletedAt" < excluded."deletedAt"
    ), returned as (
      update account_deletion held set state = 'returned', "dueAt" = case when held.state = 'purging' then held."dueAt" else $4 end
      from news where ${keyed('held.did', 'news.did')} and news.status is distinct from '${DELETED}'
    ), asked as (
      insert into handle_check (did, queue, "dueAt", "askedAt", tries)
      select did, 'new', $4, '', 0 from news
      where status is distinct from '${DELETED}' and state = 'purged' order by did on conflict (did) do nothing
    ), visible as (
      update handle_check held set "dueAt" = least(held."dueAt", $4)
      from news where ${keyed('held.did', 'news.did')} and news.status is null and news.before is not null
    ), doubted as (
      insert into account_check as held (did, state, "dueAt", tries)
      select said.did, 'new', ($6::text[])[1], 0
      from unnest($1::text[], $3::text[], $5::boolean[]) as said (did, status, contradicted)
        cross join lateral (select "accountAt" from actor_sync where did = said.did offset 0) sync
        left join lateral (select did from account_check where did = said.did and state <> 'asked' offset 0) due on true
        left join lateral (select state from account_deletion where did = said.did offset 0) gone on true
        left join lateral (select "upstreamStatus" from actor where did = said.did offset 0) actor on true
      where due.did is not null or said.contradicted
        or (sync."accountAt" is not null and said.status is distinct from ${HELD_STATUS})
      order by said.did
      on conflict (did) do update set claim = null, state = case held.state when 'asked' then 'new' else held.state end,
        "dueAt" = least(case held.state when 'asked' then null else held."dueAt" end, ($6::text[])[least(held.tries, ${DOUBLINGS}) + 1])
    )
    insert into actor (did, "indexedAt", "upstreamStatus")
    select did, at, status from news where status is distinct from '${DELETED}' or state is distinct from 'purged' order by did
    on conflict (did) do update set "upstreamStatus" = excluded."upstreamStatus"`,
}
