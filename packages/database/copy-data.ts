/**
 * Rows in the binary format of COPY (https://www.postgresql.org/docs/current/sql-copy.html, Binary Format), put
 * together to CopyData messages of about 64 KiB (Frontend/Backend Protocol, Message Formats).
 *
 * Binary, since PostgreSQL then parses nothing. Rows of one batch into their tables, copied without indexes, µs a row as
 * text and in binary: `record` 2.5 and 1.3, `like` 2.3 and 1.4, `notification` 1.8 and 0.9, `post` 3.0 and 2.2. Node
 * writes each value straight into the message and need not look for characters to escape.
 */

/**
 * A value in the type of its column, which the server does not convert: strings are for text and varchar, numbers for
 * integer, booleans for boolean. A column of jsonb takes what `jsonb` returns. null is SQL's null.
 */
export type CopyValue = string | number | boolean | null
/** The values of one row, in the order of the target's columns. */
export type CopyRow = readonly CopyValue[]

/** A JSON text as a value for a column of jsonb: `jsonb_recv` expects the version of its format, 1, before it. */
export function jsonb(json: string): CopyValue {
  return '\x01' + json
}

/** A message is complete when it has that many bytes. Messages of 16 to 256 KiB differ only within noise. */
const MESSAGE_BYTES = 65_536
/** Room for a message, and for a row of the usual size that is appended to one that is nearly complete. */
const BUFFER_BYTES = 2 * MESSAGE_BYTES
const MAX_BYTES_PER_CHAR = 3
/** CopyData is 'd', then the length of what follows including itself (Int32), then the data. */
const COPY_DATA = 0x64
const MESSAGE_HEADER_BYTES = 5
/** Signature, no flags, no extension. */
const FILE_HEADER = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1')
/** In place of a row's number of values. */
const END_OF_FILE = -1
const NULL_LENGTH = -1

/**
 * Buffers that wait for the next COPY, as many as there were COPYs at once: the memory of a new one is faulted in page
 * by page.
 */
const spare: Buffer[] = []

/** The messages of one COPY, one after the other in one buffer: each is valid until `clear` or `release`. */
export class CopyData {
  #buffer = spare.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES)
  #end = MESSAGE_HEADER_BYTES

  constructor() {
    this.#end += FILE_HEADER.copy(this.#buffer, this.#end)
  }

  /** Whether the message has its size, and should be sent. */
  get isFull(): boolean {
    return this.#end >= MESSAGE_BYTES
  }

  /** Appends one row. A row of any size fits. @throws TypeError, RangeError for what no column can take */
  append(row: CopyRow): void {
    let most = 2
    for (const value of row) most += typeof value === 'string' ? 4 + MAX_BYTES_PER_CHAR * value.length : 8
    this.#reserve(most)
    const buffer = this.#buffer
    let end = buffer.writeInt16BE(row.length, this.#end)
    for (const value of row) {
      if (typeof value === 'string') {
        const bytes = buffer.write(value, end + 4)
        buffer.writeInt32BE(bytes, end)
        end += 4 + bytes
      } else if (value === null) {
        end = buffer.writeInt32BE(NULL_LENGTH, end)
      } else if (typeof value === 'boolean') {
        end = buffer.writeInt32BE(1, end)
        buffer[end++] = value ? 1 : 0
      } else if (typeof value === 'number' && Number.isInteger(value)) {
        end = buffer.writeInt32BE(value, buffer.writeInt32BE(4, end))
      } else {
        throw new TypeError(`a ${typeof value} cannot be copied into a column`)
      }
    }
    this.#end = end
  }

  /** Appends the end of the data, for which there is always room. */
  finish(): void {
    this.#reserve(2)
    this.#end = this.#buffer.writeInt16BE(END_OF_FILE, this.#end)
  }

  /** What was appended since the last `clear`, as one message. */
  message(): Buffer {
    this.#buffer[0] = COPY_DATA
    this.#buffer.writeInt32BE(this.#end - 1, 1)
    return this.#buffer.subarray(0, this.#end)
  }

  /** Begins the next message. The socket must have taken the last one. */
  clear(): void {
    this.#end = MESSAGE_HEADER_BYTES
  }

  /** Gives the buffer to the next COPY. The socket must have taken the last message; nothing may be called any more. */
  release(): void {
    if (this.#buffer.length === BUFFER_BYTES) spare.push(this.#buffer)
    this.#buffer = Buffer.alloc(0)
  }

  #reserve(bytes: number): void {
    const needed = this.#end + bytes
    if (needed <= this.#buffer.length) return
    const larger = Buffer.allocUnsafeSlow(needed)
    this.#buffer.copy(larger, 0, 0, this.#end)
    this.#buffer = larger
  }
}
