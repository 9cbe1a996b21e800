#!/usr/bin/env node
/**
 * The command line: `npm run -s sluice -- <command>`, in the images `sluice <command>`. docs/cli.md lists the commands.
 */
// oxlint-disable-next-line import/no-unassigned-import -- it sets what must be set before anything is looked up
import './lookup-places.ts'
import { Cli } from './cli.ts'
import { COMMANDS } from './commands/list.ts'

const stop = new AbortController()
// Ctrl-C ends a --watch at once, and a long command after its present step. A second Ctrl-C ends the process.
process.once('SIGINT', () => stop.abort())
process.once('SIGTERM', () => stop.abort())
// As in `sluice status | head`: the reader has closed the pipe because it has read enough.
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
