/**
 * Measures the way from a CAR to records as JSON, next to the official library on the same CAR; and the peak memory for
 * a large CAR. `node export.bench.ts` · `node export.bench.ts --rss [megabytes]`
 */
import { spawnSync } from 'node:child_process'
import { createReadStream, createWriteStream, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { once } from 'node:events'
import { CarStore } from './car-store.ts'
import { EXPORT_LIMITS, readRepoExport, verifyExport } from './repo-export.ts'
import { measure, table } from './testing/measure.ts'
import type { TestRepo } from './testing/repo.ts'

const [mode, argument] = process.argv.slice(2)
if (mode === '--rss') await peakMemory(Number(argument ?? 300))
else if (mode === '--read') await readFile(argument!)
else await speed()

async function speed(): Promise<void> {
  const { populatedRepo } = await import('./testing/world.ts')
  const records = 20_000
  const repo = populatedRepo('export bench', records)
  const car = repo.export()
  console.log(`${records} records, ${(car.length / 1e6).toFixed(1)} MB`)
  const options = { ms: 4_000, perItem: records }
  const identity = { did: repo.did, signingKey: repo.key.did }
  const store = new CarStore(EXPORT_LIMITS)
  store.push(car)
  const verified = await verifyExport(store, identity)
  console.log(
    table('CAR → records, per record', [
      await measure('verify + lexicon JSON text', [car], () => ours(car, repo), options),
      await measure('official: readCarWithRoot + verifyRepo + JSON', [car], () => official(car, repo), options),
      await measure('part: take in and hash', [car], () => new CarStore(EXPORT_LIMITS).push(car), options),
      await measure('part: verify the tree', [car], () => verifyExport(store, identity), options),
      await measure('part: records as values', [car], () => count(verified.records()), options),
      await measure(
        'part: JSON.stringify',
        [[...verified.records()]],
        (all) => all.map((record) => JSON.stringify(record)).length,
        options,
      ),
    ]),
  )
}

async function ours(car: Buffer, repo: TestRepo): Promise<number> {
  const result = await readRepoExport([car], { did: repo.did, signingKey: repo.key.did })
  let characters = 0
  for (const record of result.records()) if (!('refused' in record)) characters += JSON.stringify(record.record).length
  return characters
}

/** The official library is loaded here only, so that it takes no memory in the process whose memory is measured. */
async function official(car: Buffer, repo: TestRepo): Promise<number> {
  const { readCarWithRoot, verifyRepo } = await import('@atproto/repo')
  const { lexToJson } = await import('@atproto/lex-json')
  const { decode } = await import('@atproto/lex-cbor')
  const { root, blocks } = await readCarWithRoot(car)
  const { creates } = await verifyRepo(blocks, root, repo.did, repo.key.did)
  let characters = 0
  for (const { cid } of creates) characters += JSON.stringify(lexToJson(decode(blocks.get(cid)!))).length
  return characters
}

function count(records: Iterable<unknown>): number {
  let n = 0
  for (const _ of records) n++
  return n
}

/** Writes a large repository to a file, and reads it in a separate process. */
async function peakMemory(megabytes: number): Promise<void> {
  const { populatedRepo } = await import('./testing/world.ts')
  const folder = mkdtempSync(join(tmpdir(), 'sluice-export-'))
  const path = join(folder, 'repo.car')
  try {
    const repo = populatedRepo('large', megabytes * 3_000)
    await write(repo, path)
    console.log(`${repo.records.size} records, ${(statSync(path).size / 1e6).toFixed(0)} MB`)
    for (const spoolBytes of [Infinity, 64e6]) {
      const task = [path, repo.did, repo.key.did, spoolBytes].join(' ')
      spawnSync(process.execPath, [import.meta.filename, '--read', task], { stdio: 'inherit' })
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

async function write(repo: TestRepo, path: string): Promise<void> {
  const file = createWriteStream(path)
  file.end(repo.export())
  await once(file, 'finish')
}

async function readFile(argument: string): Promise<void> {
  const [path, did, signingKey, spoolBytes] = argument.split(' ') as [string, string, string, string]
  const spool = { memoryBytes: Number(spoolBytes) }
  const started = performance.now()
  const result = await readRepoExport(createReadStream(path), { did, signingKey }, { spool })
  const verifiedMs = performance.now() - started
  let characters = 0
  for (const record of result.records()) if (!('refused' in record)) characters += JSON.stringify(record.record).length
  const peakKb = Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))![1])
  console.log(
    `up to ${spoolBytes} bytes in memory: ${result.recordCount} records, ${characters} characters; verified after ${(verifiedMs / 1000).toFixed(1)} s, done after ` +
      `${((performance.now() - started) / 1000).toFixed(1)} s; peak RSS ${(peakKb / 1024).toFixed(0)} MiB`,
  )
}
