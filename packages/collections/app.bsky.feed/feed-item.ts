/** Posts and reposts of an account, as its followers see them in their timelines. */
import { table } from '../define.ts'

export const feedItem = table('feed_item', {
  uri: 'text',
  cid: 'text',
  type: 'text',
  postUri: 'text',
  originatorDid: 'text',
  sortAt: 'text',
})
