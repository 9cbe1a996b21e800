import { defineConfig } from 'vitest/config'

/** Tests that must fail: `fixtures.e2e.test.ts` runs them and reads how. */
export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: ['*.leak.ts'],
    globalSetup: ['../global-postgres.ts', '../global-redis.ts'],
    setupFiles: ['../setup-file.ts'],
    pool: 'forks',
  },
})
