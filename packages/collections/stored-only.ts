/** Collections that the AppView reads from `record` alone: no rows of their own. */
import { collection } from './define.ts'

export const actorStatus = collection('app.bsky.actor.status', { rows: () => [] })
export const notificationDeclaration = collection('app.bsky.notification.declaration', { rows: () => [] })
export const germDeclaration = collection('com.germnetwork.declaration', { rows: () => [] })
/** The official AppView does not validate these. */
export const chatDeclaration = collection('chat.bsky.actor.declaration', { rows: () => [], validated: false })
