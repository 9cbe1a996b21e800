/**
 * One-dimensional arrays as PostgreSQL reads them (https://www.postgresql.org/docs/current/arrays.html, Array Input and Output Syntax).
 *
 * pg encodes them too, with two regular expressions an element and a call for each: 7 % of the indexer's CPU.
 */

/** The values of a statement, with arrays of text, numbers, booleans and nulls as text; everything else is left to pg. */
export function withArraysAsText(values: readonly unknown[]): unknown[] {
  return values.map((value) => (Array.isArray(value) && value.every(isScalar) ? arrayText(value) : value))
}

type Scalar = string | number | bigint | boolean | null | undefined

/** The array as text: `{"a","b",NULL}`. */
export function arrayText(items: readonly Scalar[]): string {
  let text = '{'
  for (let i = 0; i < items.length; i++) {
    if (i > 0) text += ','
    const item = items[i]
    if (typeof item === 'string') text += `"${SPECIAL.test(item) ? item.replace(SPECIALS, '\\$&') : item}"`
    else text += item === null || item === undefined ? 'NULL' : String(item)
  }
  return text + '}'
}

const SPECIAL = /["\\]/
const SPECIALS = /["\\]/g

function isScalar(item: unknown): item is Scalar {
  return typeof item !== 'object' || item === null
}
