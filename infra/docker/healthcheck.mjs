/**
 * `node healthcheck.mjs <port>`: exits 0 when the daemon in this container answers /health, 1 when not within 3 seconds.
 * METRICS_PORT, when set, counts instead of the port given, as for the daemon itself.
 */
const port = process.env.METRICS_PORT?.trim() || process.argv[2]
const answer = await fetch(`http://127.0.0.1:${port}/health`, { signal: AbortSignal.timeout(3_000) }).catch(
  () => undefined,
)
process.exitCode = answer?.ok ? 0 : 1
