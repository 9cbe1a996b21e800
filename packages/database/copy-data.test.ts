import { expect, test } from 'vitest'
import { CopyData, jsonb } from './copy-data.ts'
import type { CopyRow } from './copy-data.ts'

/** The data of all messages of a COPY of these rows: what follows type and length of each. */
function copied(rows: readonly CopyRow[]): Buffer {
  const data = new CopyData()
  const parts: Buffer[] = []
  const take = (): void => {
    const message = data.message()
    expect([message[0], message.readInt32BE(1)]).toEqual([0x64, message.length - 1])
    parts.push(Buffer.from(message.subarray(5)))
    data.clear()
  }
  for (const row of rows) {
    data.append(row)
    if (data.isFull) take()
  }
  data.finish()
  take()
  data.release()
  return Buffer.concat(parts)
}

const HEADER = 'PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0'
const binary = (text: string): Buffer => Buffer.from(text, 'latin1')

test('no rows are a header and an end', () => {
  expect(copied([])).toEqual(binary(`${HEADER}\xff\xff`))
})

test('null, the empty string and JSON’s null are three different things', () => {
  const row = '\0\x03\xff\xff\xff\xff\0\0\0\0\0\0\0\x05\x01null'
  expect(copied([[null, '', jsonb('null')]])).toEqual(binary(`${HEADER}${row}\xff\xff`))
})

test('booleans have one byte, integers four, and text as many as its UTF-8', () => {
  const row = '\0\x04\0\0\0\x01\x01\0\0\0\x01\0\0\0\0\x04\xff\xff\xff\xfe\0\0\0\x03\xe6\x9d\xb1'
  expect(copied([[true, false, -2, '東']])).toEqual(binary(`${HEADER}${row}\xff\xff`))
})

test('what no column can take is an error, and not a row', () => {
  const rows: CopyRow[] = [[2 ** 31], [1.5], [[] as never], [undefined as never], [1n as never]]
  for (const row of rows) {
    const data = new CopyData()
    expect(() => data.append(row)).toThrow(/out of range|cannot be copied/)
    expect(data.message().length).toBe(new CopyData().message().length)
  }
})

test('the next COPY gets the buffer of the last one, and nothing of what it held', () => {
  const first = copied([['x'.repeat(70_000)]])
  expect(first.length).toBe(19 + 2 + 4 + 70_000 + 2)
  expect(copied([['y']])).toEqual(binary(`${HEADER}\0\x01\0\0\0\x01y\xff\xff`))
})
