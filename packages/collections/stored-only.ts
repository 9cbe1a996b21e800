/** Collections that the AppView reads from the table `record` alone. Their plugins write no rows to other tables. */
import { collection } from './define.ts'

export const actorStatus = collection('app.bsky.actor.status', { rows: () => [] })
export const notificationDeclaration = collection('app.bsky.notification.declaration', { rows: () => [] })
export const germDeclaration = collection('com.germnetwork.declaration', { rows: () => [] })
/** The official AppView does not validate these records, so neither does this plugin. */
export const chatDeclaration = collection('chat.bsky.actor.declaration', { rows: () => [], validated: false })
