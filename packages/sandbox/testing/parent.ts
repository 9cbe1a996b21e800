/**
 * A process that starts children, prints their pids and directories, and then ends in the way that its argument says:
 * `SIGKILL` (it waits to be killed, and has one more child that ignores SIGTERM), `exit`, or `crash`.
 */
import { Child } from '../children.ts'
import { startPostgres } from '../postgres.ts'
import { startRedis } from '../redis.ts'

const postgres = await startPostgres({ fast: true })
const redis = await startRedis()
const stopped = await startRedis()
const [row] = await postgres.query<{ data_directory: string }>('SHOW data_directory')
stopped.pause()

const pids = [postgres.pid, redis.pid, stopped.pid]
if (process.argv[2] === 'SIGKILL') {
  const args = ['-c', `trap '' TERM; while :; do sleep 0.1; done`]
  const deaf = await Child.start({ name: 'deaf', command: 'sh', args, env: { PATH: process.env.PATH } })
  pids.push(deaf.pid)
}
process.stdout.write(`${JSON.stringify({ pids, directories: [row!.data_directory] })}\n`)
switch (process.argv[2]) {
  case 'exit':
    process.exit(0)
    break
  case 'crash':
    setImmediate(() => {
      throw new Error('as told')
    })
    break
  default:
    setInterval(() => {}, 60_000)
}
