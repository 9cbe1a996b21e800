/** Which build this is: in every log line, in the answers of /health and /ready, and as a metric. */
import { readFileSync } from 'node:fs'

/** SLUICE_BUILD_ID as the image build sets it, else the version in our package.json with a `v`. */
export function buildId(env: Readonly<Record<string, string | undefined>> = process.env): string {
  return env.SLUICE_BUILD_ID?.trim() || `v${packageVersion()}`
}

function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8')) as { version: string }
  return version
}
