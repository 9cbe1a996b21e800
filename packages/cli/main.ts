#!/usr/bin/env node
/** The command line: `npm run -s sluice -- <command>`, in the images `sluice <command>`. docs/cli.md lists the commands. */
import { Cli } from './cli.ts'
import { COMMANDS } from './commands/list.ts'

const stop = new AbortController()
// Ctrl-C ends a --watch, or a long command after the step it is at; a second one ends the process.
process.once('SIGINT', () => stop.abort())
process.once('SIGTERM', () => stop.abort())
// `sluice status | head`: the reader has enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))

const cli = new Cli(
  {
    env: process.env,
    stdout: (text) => void process.stdout.write(text),
    stderr: (text) => void process.stderr.write(text),
    colour: process.stdout.isTTY && !process.env.NO_COLOR,
    signal: stop.signal,
  },
  COMMANDS,
)
process.exitCode = await cli.main(process.argv.slice(2))
