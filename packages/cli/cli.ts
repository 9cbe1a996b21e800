/**
 * The frame of every command: global options, one session, exit codes, and errors as one clear line.
 *
 * | code | meaning                                                   |
 * |------|-----------------------------------------------------------|
 * | 0    | done; for `doctor`, `verify` and checks: nothing is wrong |
 * | 1    | something was found, or what was asked for does not exist |
 * | 2    | the command line is wrong                                 |
 * | 69   | Redis, PostgreSQL or a host is away: try again            |
 * | 70   | a fault of ours                                           |
 * | 78   | the environment is wrong, or a server refuses us for good |
 * | 130  | stopped before it was done: repeat it                     |
 */
import { Command, CommanderError } from 'commander'
import { buildId } from '@sluice/runtime/build-id.ts'
import type { Env } from '@sluice/runtime/config.ts'
import { FatalError, isAbort, RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { redact } from '@sluice/runtime/redact.ts'
import { Output } from './output.ts'
import { causeOf, Session } from './session.ts'

export const EXIT = { done: 0, found: 1, usage: 2, away: 69, bug: 70, config: 78, stopped: 130 } as const

/** The command cannot be carried out in the present state; the message says why. Exit code 1. */
export class CannotError extends Error {
  override name = 'CannotError'
}

export interface CliOptions {
  env: Env
  stdout: (text: string | Uint8Array) => void
  stderr: (text: string) => void
  colour: boolean
  signal: AbortSignal
}

export type Add = (cli: Cli, parent: Command) => void

export class Cli {
  readonly program: Command
  readonly #options: CliOptions
  #code: number = EXIT.done
  #isEndless = false

  constructor(options: CliOptions, commands: readonly Add[]) {
    this.#options = options
    this.program = new Command('sluice')
      .description(
        'See what the pipeline does, what is wrong with it, and mend it. Reads the same environment as the daemons.',
      )
      .version(buildId(options.env), '-V, --version')
      .option('--json', 'one JSON document instead of tables')
      .option('--no-color', 'no colours')
      .exitOverride()
      .configureOutput({ writeOut: options.stdout, writeErr: options.stderr })
      .showHelpAfterError('(sluice --help lists the commands; sluice <command> --help shows examples)')
    for (const add of commands) add(this, this.program)
    for (const command of allCommands(this.program)) {
      command.exitOverride().configureOutput({ writeOut: options.stdout, writeErr: options.stderr })
    }
  }

  /**
   * Runs a command in a session of its own. The number that `work` returns is the exit code.
   * @param endless the command runs until it is stopped
   */
  async run(work: (session: Session) => Promise<number | void>, { endless = false } = {}): Promise<void> {
    this.#isEndless = endless
    const { json = false, color = true } = this.program.opts<{ json?: boolean; color?: boolean }>()
    const { env, stdout, colour, signal } = this.#options
    const out = new Output({ json, colour: colour && color, write: stdout })
    await using session = new Session(env, out, signal)
    this.#code = (await work(session)) ?? EXIT.done
    // A command that is stopped leaves its loop, and has printed how far it came.
    if (signal.aborted) this.#code = this.#stopped()
  }

  /** @returns the exit code; never throws */
  async main(args: readonly string[]): Promise<number> {
    try {
      await this.program.parseAsync([...args], { from: 'user' })
      return this.#code
    } catch (error) {
      return this.#explain(error)
    }
  }

  #explain(error: unknown): number {
    if (error instanceof CommanderError) {
      // --help and --version end in this way too. What is wrong with a command line was printed already.
      return error.exitCode === 0 ? EXIT.done : EXIT.usage
    }
    if (isAbort(error) && this.#options.signal.aborted) return this.#stopped()
    const [code, text] = codeAndText(error)
    this.#options.stderr(`sluice: ${redact(text)}\n`)
    return code
  }

  /**
   * The exit code of a command that was stopped. Only an endless command counts as done then: half of a check is no
   * check, and half of a load is no load.
   */
  #stopped(): number {
    if (this.#isEndless) return EXIT.done
    this.#options.stderr('sluice: stopped before it was done; repeat it\n')
    return EXIT.stopped
  }
}

function codeAndText(error: unknown): [code: number, text: string] {
  if (error instanceof CannotError) return [EXIT.found, error.message]
  if (error instanceof TransientError) return [EXIT.away, withCause(error)]
  if (error instanceof FatalError) return [EXIT.config, oneLineOf(error)]
  if (error instanceof RefusedError) return [EXIT.found, oneLineOf(error)]
  return [
    EXIT.bug,
    `a fault of ours, please report it: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
  ]
}

function oneLineOf(error: Error): string {
  return error.message.replaceAll(/\s*\n\s*/g, '; ')
}

/**
 * The message of an error, with that of its cause: some network errors name only the address, and what happened is in
 * their cause.
 */
function withCause(error: Error): string {
  const [message, cause] = [oneLineOf(error), causeOf(error)]
  const isTold = error.message.replaceAll(/\s+/g, ' ').includes(cause)
  return isTold ? message : `${message} (${cause})`
}

function allCommands(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...allCommands(child)])
}

/** A section for `addHelpText('after', …)`: pairs of a command line and what it does. */
export function examples(...pairs: readonly [line: string, meaning: string][]): string {
  const width = Math.max(...pairs.map(([line]) => line.length))
  return `\nExamples:\n${pairs.map(([line, meaning]) => `  ${line.padEnd(width)}   ${meaning}\n`).join('')}`
}
