import { didOfUri } from '@sluice/events/stream-event.ts'
import { blobCid, type BlobRef } from '../blobs.ts'
import { collection, notify, table, type StrongRef } from '../define.ts'
import { refuseUnreadable } from '../unreadable-names.ts'

interface Profile {
  displayName?: string
  description?: string
  avatar?: BlobRef
  banner?: BlobRef
  joinedViaStarterPack?: StrongRef
  pinnedPost?: StrongRef
  createdAt?: string
}

const profile = table('profile', {
  uri: 'text',
  cid: 'text',
  creator: 'text',
  displayName: 'text?',
  description: 'text?',
  avatarCid: 'text?',
  bannerCid: 'text?',
  joinedViaStarterPackUri: 'text?',
  createdAt: 'text',
  indexedAt: 'text',
})

export default collection<Profile>('app.bsky.actor.profile', {
  tables: [profile],
  refuses: ({ record: { joinedViaStarterPack } }) => refuseUnreadable(joinedViaStarterPack?.uri),
  rows: ({ uri, cid, did, rkey, record, indexedAt }) =>
    rkey !== 'self'
      ? []
      : [
          profile.row({
            uri,
            cid,
            creator: did,
            displayName: record.displayName ?? null,
            description: record.description ?? null,
            avatarCid: blobCid(record.avatar),
            bannerCid: blobCid(record.banner),
            joinedViaStarterPackUri: record.joinedViaStarterPack?.uri ?? null,
            // Not normalised: the official AppView keeps the date as the record has it. A profile without a date gets
            // the time of its commit.
            createdAt: record.createdAt ?? indexedAt,
            indexedAt,
          }),
        ],
  notifications: ({ rkey, record: { joinedViaStarterPack: pack } }) =>
    pack && rkey === 'self' ? [notify(didOfUri(pack.uri), 'starterpack-joined', pack.uri)] : [],
  notifiesSelf: true,
})
