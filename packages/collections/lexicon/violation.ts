/** What is wrong with a value, and where in it. Made only when something is: a valid record allocates nothing. */

export interface Violation {
  /** From the value that was checked: `.reply.root.uri`, `.langs[1]`; empty for the value itself. */
  path: string
  /** `is not a datetime`; never quotes the value. */
  message: string
}

/** Of a value: undefined when it is as it should be. */
export type Check = (value: unknown) => Violation | undefined

export function violation(message: string): Violation {
  return { path: '', message }
}

/** A violation of a property, seen from the object. */
export function inProperty(key: string, { path, message }: Violation): Violation {
  return { path: `.${key}${path}`, message }
}

/** A violation of an item, seen from the array. */
export function inItem(index: number, { path, message }: Violation): Violation {
  return { path: `[${index}]${path}`, message }
}
