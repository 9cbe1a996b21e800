/**
 * Error classes, each of which means a policy. Code that catches an error decides by its class, never by its text.
 *
 * | class            | meaning                                       | policy                                                    |
 * |------------------|-----------------------------------------------|-----------------------------------------------------------|
 * | `TransientError` | the environment is at fault and may recover   | wait with backoff, try again, without limit; lose nothing |
 * | `RefusedError`   | this input is wrong and will stay wrong       | count by `reason`; drop or dead-letter by rule; go on     |
 * | `FatalError`     | Sluice is wrong, or set up wrongly            | stop the process with a message that says what to do      |
 *
 * An error without such a class is a bug of ours. The runner treats it as fatal; a consumer that can isolate the entry
 * makes a dead letter of it.
 */
import { inspect } from 'node:util'

/**
 * The environment is at fault and may recover: a lost connection, a timeout, a full disk, a server that is starting.
 */
export class TransientError extends Error {
  override name = 'TransientError'
  /** The least time to wait before the next try, when the other side named one. */
  readonly retryAfterMs: number | undefined
  constructor(message: string, options: ErrorOptions & { retryAfterMs?: number } = {}) {
    super(message, options)
    this.retryAfterMs = options.retryAfterMs
  }
}

/** An input is wrong and will stay wrong. `reason` comes from a closed list of its package, fit for a metric label. */
export class RefusedError<Reason extends string = string> extends Error {
  override name = 'RefusedError'
  readonly reason: Reason
  constructor(reason: Reason, detail: string, options?: ErrorOptions) {
    super(`${reason}: ${detail}`, options)
    this.reason = reason
  }

  /** The other side's own code (SQLSTATE, errno), when it gave one. */
  get code(): string | undefined {
    const { code } = (this.cause ?? {}) as { code?: unknown }
    return typeof code === 'string' ? code : undefined
  }
}

/** Sluice is wrong, or set up wrongly. The process stops, and the message says what to do. */
export class FatalError extends Error {
  override name = 'FatalError'
}

/**
 * A fatal error that one particular input may have caused, such as a statement that fails only with its data. The
 * process stops all the same. A consumer that was working on a single entry counts the error against that entry.
 */
export class DefectError extends FatalError {
  override name = 'DefectError'
}

/** Whether the work was cancelled by a signal, which is no failure. */
export function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError'
}

/** One line for a log: name, message, and the messages of its causes. */
export function describeError(error: unknown): string {
  const parts: string[] = []
  for (let e: unknown = error; e !== undefined && parts.length < 5; e = e instanceof Error ? e.cause : undefined) {
    parts.push(e instanceof Error ? `${e.name}: ${e.message}` : typeof e === 'string' ? e : inspect(e))
  }
  return parts.join(' ← ')
}
