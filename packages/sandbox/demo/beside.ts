/**
 * The environment of what runs here, as a file, so that `sluice` can be run beside it from another terminal.
 *
 * It names the stores with their password, the daemons, whose ports are not the usual ones, and whatever else they were
 * given. Only its owner can read it, and it goes with this process, however that ends.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { guardDirectory, unguardDirectory } from '../guard.ts'
import { SCHEMA } from '../template.ts'
import { CONSUMER, type Daemons, type Stores } from './stack.ts'

export class Beside implements Disposable {
  // The guard takes no path with a space in it, nor does the line that is to be typed.
  readonly #dir = mkdtempSync(join(/^\/\S+$/.test(tmpdir()) ? tmpdir() : '/tmp', 'sluice-beside-'))

  /** @param env of the daemons, the stores apart */
  constructor(stores: Stores, daemons: Daemons, env: Record<string, string>) {
    guardDirectory(this.#dir)
    const all = {
      ...env,
      REDIS_URL: stores.redis.url(),
      DB_POSTGRES_URL: stores.databaseUrl,
      DB_POSTGRES_SCHEMA: SCHEMA,
      BACKFILLER_CONSUMER: CONSUMER,
      INDEXER_CONSUMER: CONSUMER,
      SLUICE_DAEMONS: daemons.all.map(({ port }) => `http://127.0.0.1:${port}`).join(','),
    }
    // A shell would take a line apart at its spaces: those behind the commas of a list mean nothing, and a line with
    // others is left out.
    const lines = Object.entries(all)
      .map(([name, value]) => `${name}=${value.trim().replaceAll(/\s*,\s*/g, ',')}`)
      .filter((line) => !/\s/.test(line))
      .map((line) => `${line}\n`)
    writeFileSync(this.#file, lines.join(''), { mode: 0o600 })
  }

  /** What to type in another terminal, before the command of `sluice`. */
  get command(): string {
    return `env $(cat ${this.#file}) npm run -s sluice --`
  }

  get #file(): string {
    return join(this.#dir, 'env')
  }

  [Symbol.dispose](): void {
    rmSync(this.#dir, { recursive: true, force: true })
    unguardDirectory(this.#dir)
  }
}
