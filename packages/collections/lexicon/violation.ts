/**
 * A violation says what is wrong with a value, and where. It is made only for an invalid value, so checking a valid
 * record allocates nothing.
 */

export interface Violation {
  /**
   * The path from the checked value to the wrong one: `.reply.root.uri`, `.langs[1]`. Empty when the checked value
   * itself is wrong.
   */
  path: string
  /** For example `is not a datetime`. Never quotes the value. */
  message: string
}

/** Checks a value. Undefined: the value is valid. */
export type Check = (value: unknown) => Violation | undefined

export function violation(message: string): Violation {
  return { path: '', message }
}

/** The violation of a property's value, with the path from the object. */
export function inProperty(key: string, { path, message }: Violation): Violation {
  return { path: `.${key}${path}`, message }
}

/** The violation of an item, with the path from the array. */
export function inItem(index: number, { path, message }: Violation): Violation {
  return { path: `[${index}]${path}`, message }
}
