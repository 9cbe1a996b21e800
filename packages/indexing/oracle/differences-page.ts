/** Makes the text of `docs/differences.md` from the list of allowances. Pure. */
import type { Allowance } from './allowance.ts'
import { accountAllowances } from './allowed-accounts.ts'
import { duplicateAllowances } from './allowed-duplicates.ts'
import { notificationAllowances } from './allowed-notifications.ts'
import { rowAllowances } from './allowed-rows.ts'

const PARTS: readonly [string, readonly Allowance[]][] = [
  ['Rows and counters', rowAllowances],
  ['Duplicates', duplicateAllowances],
  ['Notifications', notificationAllowances],
  ['Deleted accounts', accountAllowances],
]

export function differencesPage(): string {
  return (
    [HEAD, ...PARTS.map(([title, list]) => `## ${title}\n\n${list.map(section).join('\n\n')}`), TAIL].join('\n\n') +
    '\n'
  )
}

function section({ id, tables, theirs, ours }: Allowance): string {
  const named = tables.map((table) => `\`${table}\``).join(', ')
  return `### ${id[0]!.toUpperCase()}${id.slice(1)}\n\nTables: ${named}.\n\n- Official: ${theirs}\n- Sluice: ${ours}`
}

const HEAD = `# Differences from the official AppView's indexer

Written by \`node packages/indexing/oracle/write-differences.ts\` from the list that the tests use: each entry is a predicate over both
databases, and a difference that none of them explains fails \`packages/indexing/oracle/oracle.e2e.test.ts\`. There the official indexer (npm
\`@atproto/bsky\`) and ours are fed by the same real PDS; the official one strictly one event after the other, since two runs of it differ otherwise.
All 31 tables that it fills from the firehose are compared, row by row and column by column, indexing times included.

The reason is nearly always the same: what the official indexer writes depends on the order in which events arrive, and ours must not.`

const TAIL = `## Not differences, but worth knowing

- \`profile.pinnedPost\` and \`pinnedPostCid\` are written by neither; readers take the pinned post from the record.
- \`record.rev\`, \`record.fromExport\`, \`actor_sync.resyncRev\`, \`actor_sync.accountAt\` and our own tables (\`tombstone\`, \`past_fact\`, …) are ours alone.
- \`notification.id\` and \`actor.indexedAt\` are not compared: the one is a counter, the other tells when a handle was last looked up.
- \`label\` is written by us (from labelers) and by nobody in the official package; the comparison gives both databases the same labels.
- When the only notification of a record is silenced by a muted thread, the official indexer fails in its own statement (\`syntax error at or near ")"\`:
  an insert of no rows) and drops the whole record. Ours indexes it, and notifies nobody. Likewise a record with NUL in a text, which
  PostgreSQL cannot hold: ours keeps it in \`record.json\` as it is, and leaves it out of the columns. Likewise a post whose embed has an empty list of pictures
  (\`images: []\`, which its lexicon allows, alone or beside a record): ours indexes it, without pictures. Likewise an edit after which a like, follow, verification, …
  says what another one of the account says already (\`Record update failed: removed from index but could not be replaced\`): there the version before stays, \`record\`
  included; ours writes the record, and of the two the one with the lowest URI has the row. The random comparisons leave such versions out on our side;
  \`dropped.e2e.test.ts\` and \`edits.e2e.test.ts\` show them.
- Of a reply that an edit moved from one thread of its author to another one, when its place in the first one ended depends on which version arrives first, and with which in one batch. And
  \`indexedAt\` of a record that was changed and changed back. And of two exports that have different versions of one post, or of a gate that keeps its \`createdAt\`, both claim to be of the same moment: which of them counts for the replies of
  then, depends on which comes first. A version that arrives after two exports, in neither of which it is, ends at the head of the second; and a post or a gate that was brought both by its own commit and by an export with that commit as its head counts from that on or from when it says, by
  which came first. Where an export of posts or gates comes before the commit whose version it repeats, and the path was emptied before that commit (written, deleted, written anew, exported) or a later export tells of
  it too (written, exported, edited, exported), replies may be judged as though that version had begun when it says and not with its commit, or as though an earlier one had gone on until that export. Likewise of a follow or a list item that said the same before, then something else or nothing, and has ended since.
  What somebody was told of a like, a repost or a quote of their reply is withdrawn when the reply comes later and they have muted its thread; but not while a first load is under way (\`sluice bulk begin\`), and of more than 10,000 likes, reposts or quotes only of so many.
  And of replies that answer each other in a circle, which only strangers' programs make, \`invalidReplyRoot\` depends on where judging comes upon the circle; nothing outside of it does.
  And of more than a hundred records by which one account follows another, or a list names one, a gate asks a hundred.
  No other case is known in which what we write
  depends on the order of arrival. Commits of one account arrive in order, save after a takeover or a resync.
- Of a record that only an export has brought nobody knows when it was written, so it counts from when it says on, in whatever order things arrive: a follow, a list item or a post from the time of its key, which is that of its first version; a gate from its \`createdAt\`. So
  where one was edited, or deleted and written anew under its key, and our commit of that is missing, replies of before are judged as though it had said from its beginning what the export says: a follow lets in both whom it named then and whom it names in the
  export; of a post or a gate a version that began after that counts for as long as it is known to have been there. What it said before ends at the export's head, which may be later than it did. When the commit of a follow or a list item comes at last, it counts from that on; but not where another part of that export came before the commit, and the part that has the record after it.
- A reply that names the root of its thread by handle (\`at://alice.test/…\`) is refused by both, as \`invalid-record\`: the official indexer throws at it. Ours alone refuses what
  names by handle the parent of a reply, the record that a post embeds, a record behind its link (\`associatedRefs\`), the subject of a repost or like, the starter pack of a follow (\`via\`) or
  a profile (\`joinedViaStarterPack\`), the list or a feed of a starter pack, or a list of a thread gate. The official indexer stores these, and its readers throw at
  them (\`uriToDid\`): a timeline fails for every follower of who made such a repost, and all notifications of who is followed so. Nothing is lost by it, since records are stored under DIDs:
  what is named by handle is never found. A thread whose gate is refused is open to everybody; with it, no page would show the thread.
- DIDs that the AppView's parser does not know (\`did:example:a_b\`, \`did:web:a.test%3A1\`) are taken for handles in all of these; the official indexer too throws at some.
- A record of a collection that the AppView reads whose \`createdAt\` is an object is refused, though the lexicon may not name that property: the AppView makes a \`Date\` of it, which may throw.
  No comparison has any of these.
- A record that names something (a URI or a DID) by more than 1,000 characters is refused, as \`invalid-record\`: its rows could be too large for an index. The protocol allows 8,192; no comparison has such.
- Handles are verified both ways by both, ours beside the data path.`
