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

The official indexer is that of npm \`@atproto/bsky\`. \`packages/indexing/oracle/oracle.e2e.test.ts\` feeds it and ours from the same real PDS, and
compares all 31 tables that it fills from the firehose, row by row and column by column, indexing times included. The official one gets one event at a time, because otherwise two runs of it differ.

This page is written by \`node packages/indexing/oracle/write-differences.ts\` from the list that the tests use. Each entry is a predicate over both databases. A difference that none of them
explains fails the test.

The reason is nearly always the same: what the official indexer writes depends on the order in which events arrive, and ours must not.`

const TAIL = `## Not differences, but worth knowing

### What is not compared

- \`profile.pinnedPost\` and \`profile.pinnedPostCid\`: neither indexer fills them. Readers take the pinned post from the record.
- \`record.rev\`, \`record.fromExport\`, \`actor_sync.resyncRev\`, \`actor_sync.accountAt\` and our own tables (\`tombstone\`, \`past_fact\`, …): the official indexer has none of them.
- \`notification.id\`, which is a counter, and \`actor.indexedAt\`, which tells when a handle was last looked up.
- \`label\`: only we write it, from labelers. The comparison gives both databases the same labels.

### What the official indexer drops

Here a statement of the official indexer fails, and it drops the whole version of the record. Ours indexes it. The random comparisons leave such versions out on our side;
\`dropped.e2e.test.ts\` and \`edits.e2e.test.ts\` show them.

- **A record whose only notification is silenced by a muted thread.** The official indexer then inserts no rows, which is a \`syntax error at or near ")"\`. Ours notifies nobody.
- **A post whose embed has an empty list of pictures** (\`images: []\`, which its lexicon allows, alone or beside a record). Ours indexes it without pictures.
- **A record with NUL in a text**, which PostgreSQL cannot hold. Ours keeps it in \`record.json\` as it is, and leaves the NUL out of the columns.
- **An edit after which a like, follow, verification, … says what another one of the account already says** (\`Record update failed: removed from index but could not be replaced\`). There
  the earlier version stays, in \`record\` too. Ours writes the new one, and of the two records the one with the lowest URI has the row.

### Where the order of arrival shows

Commits of one account arrive in order, except after a takeover or a resync. What we write depends on the order of arrival in the following cases, and in no other that is known.

Without exports:

- **A reply that an edit moves** from one thread of its author to another. When its place in the first thread ended depends on which version arrives first, and on which versions are in one batch.
- **A record that was changed and changed back**: its \`indexedAt\`.
- **Replies in a circle**, which only programs of strangers make. Their \`invalidReplyRoot\` depends on where judging meets the circle; nothing outside the circle does.
- **More than a hundred records by which one account follows another, or a list names one**: a gate asks a hundred of them.
- **A reply in a thread that its author has muted, when a like, repost or quote of the reply arrives first.** The author is told of it, and that is withdrawn when the reply arrives. It is not withdrawn while a first load is under
  way (\`sluice bulk begin\`). Of the likes, reposts and quotes of one reply, 10,000 each are withdrawn.
- **A reply that an edit moves out of a thread that its author has muted.** The author is told of the likes, reposts and quotes of it that arrive after the edit. Those that arrived before it stay untold.

With exports, which do not tell when a record was written:

- **Two exports with different versions of one post**, or of a gate that keeps its \`createdAt\`. Both versions claim the same moment. Which of them counts for the replies of that moment depends on which export arrives first.
- **A version that arrives after two exports and is in neither of them.** It ends at the head of the second.
- **A post or a gate that its own commit brings, and an export whose head is that commit brings too.** It counts from the commit on, or from when it claims, depending on which arrives first.
- **An export of a post or a gate that arrives before the commit whose version it repeats.** This matters if the path was emptied before that commit (written, deleted, written anew, exported), or if a later export tells of
  the path too (written, exported, edited, exported). Then replies may be judged as if that version had begun when it claims and not with its commit, or as if an earlier version had gone on until that export.

### What only an export has brought

Nobody knows when such a record was written. So it counts from when it claims, in whatever order things arrive. A follow, a list item and a post claim the time of their key, which is that of their first version. A gate claims
its \`createdAt\`.

The claim is too early if the record was edited, or deleted and written anew under its key, and the commit of that is missing here. Earlier replies are then judged as if the record had said from its beginning what the export says:

- A follow lets in both whom it named then and whom it names in the export.
- Of a post or a gate, a version that began after the claimed time counts for as long as it is known to have been there.
- What the record said before ends at the head of the export, which may be later than it really ended.
- When the commit of a follow or a list item arrives at last, the record counts from that commit on. So it does if the commit arrived first and was dropped, because another part of the export had arrived before it.

### Records that are named by handle

A reply that names the root of its thread by handle (\`at://alice.test/…\`) is refused by both: by ours as \`invalid-record\`, while the official indexer throws at it.

Ours alone refuses a record that names one of these by handle:

- the parent of a reply
- the record that a post embeds, or a record behind its link (\`associatedRefs\`)
- the subject of a repost or a like
- the starter pack of a follow (\`via\`) or of a profile (\`joinedViaStarterPack\`)
- the list or a feed of a starter pack
- a list of a thread gate

The official indexer stores these, and its readers throw at them (\`uriToDid\`). One such repost breaks the timeline of everybody who follows its author, and one such follow breaks all notifications of the account that it follows.
Nothing is lost by the refusal: records are stored under DIDs, so what is named by handle is never found. A thread whose gate is refused is open to everybody; with that gate, no page would show the thread.

DIDs that the AppView's parser does not know (\`did:example:a_b\`, \`did:web:a.test%3A1\`) count as handles in all of this. The official indexer throws at some of these too.

### Other records that ours refuses

The random comparisons have none of these, and none of those that are named by handle.

- A record of a collection that the AppView reads, if its \`createdAt\` is an object, even where the lexicon has no such property. The AppView makes a \`Date\` of it, which may throw.
- A record that names something (a URI or a DID) by more than 1,000 characters (\`invalid-record\`). Its rows could be too large for an index. The protocol allows 8,192.

### Handles

Both indexers verify handles both ways, ours beside the data path.`
