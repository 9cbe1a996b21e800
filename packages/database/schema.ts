/**
 * The tables that Sluice writes, as types for kysely: see typed.ts.
 *
 * All times are ISO 8601 text in UTC. `null` is SQL's null. Columns that PostgreSQL computes are `GeneratedAlways`.
 */
import type { ColumnType, Generated, GeneratedAlways } from 'kysely'
import type {
  AccountCheckTable,
  AccountDeletionTable,
  BulkIndexTable,
  BulkLoadTable,
  BulkStepTable,
  GatedReplyTable,
  HandleCheckTable,
  PastFactTable,
  SettleLaterTable,
  TombstoneTable,
} from './own-tables.ts'

export interface Schema {
  account_check: AccountCheckTable
  account_deletion: AccountDeletionTable
  actor: ActorTable
  actor_block: ActorBlockTable
  actor_sync: ActorSyncTable
  duplicate_record: DuplicateRecordTable
  feed_generator: FeedGeneratorTable
  feed_item: FeedItemTable
  follow: FollowTable
  handle_check: HandleCheckTable
  label: LabelTable
  labeler: LabelerTable
  like: LikeTable
  list: ListTable
  list_block: ListBlockTable
  list_item: ListItemTable
  notification: NotificationTable
  op_thread_reply: OpThreadReplyTable
  post: PostTable
  post_agg: PostAggTable
  post_embed_external: PostEmbedExternalTable
  post_embed_gallery_image: PostEmbedImageTable
  post_embed_image: PostEmbedImageTable
  post_embed_record: PostEmbedRecordTable
  post_embed_video: PostEmbedVideoTable
  post_gate: GateTable
  profile: ProfileTable
  profile_agg: ProfileAggTable
  quote: QuoteTable
  record: RecordTable
  reference_list_opt_out: ReferenceListOptOutTable
  repost: RepostTable
  starter_pack: StarterPackTable
  thread_gate: GateTable
  tombstone: TombstoneTable
  bulk_index: BulkIndexTable
  bulk_load: BulkLoadTable
  bulk_step: BulkStepTable
  gated_reply: GatedReplyTable
  past_fact: PastFactTable
  settle_later: SettleLaterTable
  verification: VerificationTable
}

/** The columns of most records: a row that is named by its URI. */
interface RowOfRecord {
  uri: string
  cid: string
  creator: string
  createdAt: string
  indexedAt: string
}

/** jsonb: read as a value, written as JSON text (pg would write an array as a PostgreSQL array). */
export type Json<T> = ColumnType<T, string | null, string | null>

/** `sortAt` is the earlier of the record's own time and the time at which it was indexed. The AppView pages by it. */
interface Sorted {
  sortAt: GeneratedAlways<string>
}

interface ActorTable {
  did: string
  handle: string | null
  indexedAt: string
  takedownRef: string | null
  /** The account's status upstream; null means active. */
  upstreamStatus: string | null
  trustedVerifier: Generated<boolean>
  ageAssuranceStatus: string | null
  ageAssuranceLastInitiatedAt: string | null
  ageAssuranceAccess: string | null
  ageAssuranceCountryCode: string | null
  ageAssuranceRegionCode: string | null
}

interface ActorBlockTable extends RowOfRecord, Sorted {
  subjectDid: string
}

interface ActorSyncTable {
  did: string
  commitCid: string
  repoRev: string | null
  /** Ours: the rev of the last resync; live events at or below it are in the rows already. */
  resyncRev: string | null
  /** Ours: when the newest account event that counts happened, by the clock of its sender. */
  accountAt: string | null
}

/** A second record that says the same as `duplicateOf`. It waits to take over its rows. */
interface DuplicateRecordTable {
  uri: string
  cid: string
  duplicateOf: string
  indexedAt: string
}

interface FeedGeneratorTable extends RowOfRecord, Sorted {
  feedDid: string
  displayName: string | null
  description: string | null
  descriptionFacets: string | null
  avatarCid: string | null
}

interface FeedItemTable {
  uri: string
  cid: string
  type: 'post' | 'repost'
  postUri: string
  originatorDid: string
  sortAt: string
}

interface FollowTable extends RowOfRecord, Sorted {
  subjectDid: string
}

interface LabelTable {
  src: string
  uri: string
  /** Empty when the label is about every version. */
  cid: string
  val: string
  neg: boolean
  cts: string
  exp: string | null
}

interface LabelerTable extends RowOfRecord, Sorted {}

interface LikeTable extends RowOfRecord, Sorted {
  subject: string
  subjectCid: string
  via: string | null
  viaCid: string | null
}

interface ListTable extends RowOfRecord, Sorted {
  name: string
  purpose: string
  description: string | null
  descriptionFacets: string | null
  avatarCid: string | null
}

interface ListBlockTable extends RowOfRecord, Sorted {
  subjectUri: string
}

interface ListItemTable extends RowOfRecord, Sorted {
  subjectDid: string
  listUri: string
}

interface NotificationTable {
  id: Generated<number>
  /** Who is notified. */
  did: string
  recordUri: string
  recordCid: string
  author: string
  reason: string
  reasonSubject: string | null
  sortAt: string
}

interface OpThreadReplyTable {
  rootUri: string
  parentUri: string
  uri: string
  deletedAt: string | null
}

interface PostTable extends RowOfRecord, Sorted {
  text: string
  replyRoot: string | null
  replyRootCid: string | null
  replyParent: string | null
  replyParentCid: string | null
  langs: Json<string[] | null>
  tags: Json<string[] | null>
  invalidReplyRoot: boolean | null
  violatesThreadGate: boolean | null
  violatesEmbeddingRules: boolean | null
  hasThreadGate: boolean | null
  hasPostGate: boolean | null
}

interface PostAggTable {
  uri: string
  likeCount: Generated<number>
  replyCount: Generated<number>
  repostCount: Generated<number>
  quoteCount: Generated<number>
  bookmarkCount: Generated<number>
}

interface PostEmbedExternalTable {
  postUri: string
  uri: string
  title: string
  description: string
  thumbCid: string | null
}

interface PostEmbedImageTable {
  postUri: string
  /** A number in text. */
  position: string
  imageCid: string
  alt: string
}

interface PostEmbedRecordTable {
  postUri: string
  embedUri: string
  embedCid: string
}

interface PostEmbedVideoTable {
  postUri: string
  videoCid: string
  alt: string | null
}

interface GateTable extends RowOfRecord {
  postUri: string
}

interface ProfileTable extends RowOfRecord {
  displayName: string | null
  description: string | null
  avatarCid: string | null
  bannerCid: string | null
  joinedViaStarterPackUri: string | null
  pinnedPost: string | null
  pinnedPostCid: string | null
}

interface ProfileAggTable {
  did: string
  followersCount: Generated<number>
  followsCount: Generated<number>
  postsCount: Generated<number>
}

interface QuoteTable extends Sorted {
  /** The post that quotes. */
  uri: string
  cid: string
  subject: string
  subjectCid: string
  createdAt: string
  indexedAt: string
}

/** Every living record, whatever its collection. */
interface RecordTable {
  uri: string
  cid: string
  did: string
  json: string
  indexedAt: string
  takedownRef: string | null
  tags: Json<string[] | null>
  /** Ours: the rev at which the record was last written; null in rows that were here before us. */
  rev: string | null
  /** Ours: `rev` is that of an export's head, which does not tell when the record was written. */
  fromExport: boolean | null
}

interface ReferenceListOptOutTable extends RowOfRecord, Sorted {
  subjectUri: string
}

interface RepostTable extends RowOfRecord, Sorted {
  subject: string
  subjectCid: string
  via: string | null
  viaCid: string | null
}

interface StarterPackTable extends RowOfRecord, Sorted {
  name: string | null
}

interface VerificationTable extends RowOfRecord {
  rkey: string
  subject: string
  handle: string
  displayName: string
  sortedAt: GeneratedAlways<string>
}
