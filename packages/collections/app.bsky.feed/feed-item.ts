/** What followers see of an account in their timelines: posts and reposts. */
import { table } from '../define.ts'

export const feedItem = table('feed_item', {
  uri: 'text',
  cid: 'text',
  type: 'text',
  postUri: 'text',
  originatorDid: 'text',
  sortAt: 'text',
})
