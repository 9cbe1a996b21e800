/** What our daemons make of recorded frames: the events that the ingester would append, decoded from the entries that it would write. */
import { CidText } from './cid-text.ts'
