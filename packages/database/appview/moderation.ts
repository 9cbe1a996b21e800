/**
 * The AppView's moderation tables. Takedowns of blobs are read by it; the rest are left from before moderation moved
 * out.
 */
export const moderationTables = `
create table blob_takedown (
  did varchar not null,
  cid varchar not null,
  "takedownRef" varchar not null,
  primary key (did, cid)
);

create table moderation_action (
  id serial primary key,
  action varchar not null,
  "subjectType" varchar not null,
  "subjectDid" varchar not null,
  "subjectUri" varchar,
  "subjectCid" varchar,
  reason text not null,
  "createdAt" varchar not null,
  "createdBy" varchar not null,
  "reversedAt" varchar,
  "reversedBy" varchar,
  "reversedReason" text,
  "createLabelVals" varchar,
  "negateLabelVals" varchar,
  "durationInHours" integer,
  "expiresAt" varchar
);

create table moderation_action_subject_blob (
  "actionId" integer not null references moderation_action (id),
  cid varchar not null,
  primary key ("actionId", cid)
);
create index moderation_action_subject_blob_cid_idx on moderation_action_subject_blob (cid);

create table moderation_report (
  id serial primary key,
  "subjectType" varchar not null,
  "subjectDid" varchar not null,
  "subjectUri" varchar,
  "subjectCid" varchar,
  "reasonType" varchar not null,
  reason text,
  "reportedByDid" varchar not null,
  "createdAt" varchar not null
);

create table moderation_report_resolution (
  "reportId" integer not null references moderation_report (id),
  "actionId" integer not null references moderation_action (id),
  "createdBy" varchar not null,
  "createdAt" varchar not null,
  primary key ("reportId", "actionId")
);
create index moderation_report_resolution_action_id_idx on moderation_report_resolution ("actionId");

create table moderation_event (
  id serial primary key,
  action varchar not null,
  "subjectType" varchar not null,
  "subjectDid" varchar not null,
  "subjectUri" varchar,
  "subjectCid" varchar,
  comment text,
  meta jsonb,
  "createdAt" varchar not null,
  "createdBy" varchar not null,
  "reversedAt" varchar,
  "reversedBy" varchar,
  "durationInHours" integer,
  "expiresAt" varchar,
  "reversedReason" text,
  "createLabelVals" varchar,
  "negateLabelVals" varchar,
  "legacyRefId" integer
);

create table moderation_subject_status (
  id serial primary key,
  did varchar not null,
  "recordPath" varchar not null default '',
  "blobCids" jsonb,
  "recordCid" varchar,
  "reviewState" varchar not null,
  comment varchar,
  "muteUntil" varchar,
  "lastReviewedAt" varchar,
  "lastReviewedBy" varchar,
  "lastReportedAt" varchar,
  takendown boolean not null default false,
  "suspendUntil" varchar,
  "createdAt" varchar not null,
  "updatedAt" varchar not null,
  constraint moderation_status_unique_idx unique (did, "recordPath")
);
create index moderation_subject_status_blob_cids_idx on moderation_subject_status using gin ("blobCids");
`
