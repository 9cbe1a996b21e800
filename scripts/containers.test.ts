import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { exampleOf } from '@sluice/runtime/config.ts'
import { describe, expect, test } from 'vitest'
import { reachable } from './metric-declarations.ts'
import { configOf, readSources, ROLES, root } from './roles.ts'
import { contextFiles, copiesOf, parseIgnore, readStages, theOnly } from './testing/image.ts'

const context = new Set(contextFiles())
const pins = readFileSync(join(root, 'scripts/run.mjs'), 'utf8')
const pin = (name: string): string => new RegExp(`const ${name} = '(.+)'`).exec(pins)![1]!

test('.dockerignore is read as Docker does: later lines win, folders count for what is in them', () => {
  const isIgnored = parseIgnore('*\n!packages\npackages/sandbox\n**/node_modules\n**/*.test.ts\n')
  const kept = ['packages/a/b.ts', 'packages/sandboxes/a.ts', 'packages/a/tests.ts']
  const ignored = [
    'README.md',
    '.git/config',
    'packages/sandbox/a.ts',
    'packages/a/node_modules/b/c.js',
    'packages/a.test.ts',
  ]
  expect([...kept, ...ignored].filter((path) => !isIgnored(path))).toEqual(kept)
})

test('the build sees every file that a daemon or the command line loads, and no test, tool or secret', () => {
  const sources = readSources()
  const loaded = [...ROLES.map((role) => `services/${role}/main.ts`), 'packages/cli/main.ts'].flatMap((entry) =>
    reachable(sources, entry),
  )
  expect(loaded.length).toBeGreaterThan(100)
  expect(loaded.filter((path) => !context.has(path))).toEqual([])
  expect([...context].filter((path) => /\.(test|bench)\.ts$|sandbox|\.env|^scripts|^\.git/.test(path))).toEqual([])
  expect([...context].filter((path) => path.endsWith('.lua')).length).toBeGreaterThan(5)
})

describe.each(ROLES)('Dockerfile.%s', (role) => {
  const [build, image, ...more] = readStages(`Dockerfile.${role}`)

  test('copies what exists, from the context or from the stage before', () => {
    expect(more).toEqual([])
    for (const { from, sources } of [...copiesOf(build!), ...copiesOf(image!)]) {
      for (const source of sources) {
        if (from === undefined) {
          expect(
            [...context].some((path) => path === source || path.startsWith(`${source}/`)),
            source,
          ).toBe(true)
          continue
        }
        expect(theOnly(build!, 'FROM')).toMatch(new RegExp(` AS ${from}$`))
        expect(source).toMatch(new RegExp(`^${theOnly(build!, 'WORKDIR')}/`))
      }
    }
  })

  test('is read by the builder of the engine: another one would have to come from a registry, unpinned', () => {
    expect(readFileSync(join(root, `Dockerfile.${role}`), 'utf8')).not.toMatch(/^# *syntax *=/m)
  })

  test('uses the Node and the pnpm that everything is tested with', () => {
    expect(theOnly(build!, 'FROM')).toBe(`node:${pin('NODE_VERSION')}-bookworm AS build`)
    expect(theOnly(image!, 'FROM')).toBe(`node:${pin('NODE_VERSION')}-bookworm-slim`)
    expect(build!.map(({ text }) => text)).toContain(`npm install --global pnpm@${pin('PNPM_VERSION')}`)
  })

  test('lets the user of the image read whatever the umask of the checkout was', () => {
    const fromContext = image!.filter(({ name, text }) => name === 'COPY' && !text.includes('--from='))
    expect(fromContext.length).toBe(2)
    for (const { text } of fromContext) expect(text).toMatch(/^--chmod=(644|755) /)
    const opened = build!.map(({ text }) => text).indexOf('chmod -R a+rX packages services')
    const copied = build!.findLastIndex(({ name }) => name === 'COPY')
    expect(opened).toBeGreaterThan(copied)
  })

  test('installs by the lockfile, and production dependencies only', () => {
    const install = build!.find(({ text }) => text.includes('pnpm install'))!.text
    for (const flag of ['--frozen-lockfile', '--prod', '--ignore-scripts']) expect(install).toContain(flag)
    // The command line depends on every role.
    const { dependencies } = JSON.parse(readFileSync(join(root, 'packages/cli/package.json'), 'utf8')) as {
      dependencies: Record<string, string>
    }
    expect(install).toContain("--filter '@sluice/cli...'")
    expect(Object.keys(dependencies)).toContain(`@sluice/${role}`)
  })

  test('runs the role, as nobody in particular, and asks the port that the role answers on', async () => {
    const { options } = await configOf(role)
    const port = exampleOf(options.metricsPort!)
    const command = (JSON.parse(theOnly(image!, 'CMD')) as string[]).filter((word) => !word.startsWith('--'))
    expect(command).toEqual(['node', `services/${role}/main.ts`])
    expect(existsSync(join(root, command[1]!))).toBe(true)
    expect(theOnly(image!, 'EXPOSE')).toBe(port)
    expect(theOnly(image!, 'USER')).toBe('1000:1000')
    const health = JSON.parse(/CMD (\[.*\])$/.exec(theOnly(image!, 'HEALTHCHECK'))![1]!) as string[]
    const script = copiesOf(image!).find(({ target }) => target === health[1])
    expect(script?.sources).toEqual(['infra/docker/healthcheck.mjs'])
    expect(health[2]).toBe(port)
  })

  test('brings the command line as `sluice`', () => {
    const wrapper = readFileSync(join(root, 'infra/docker/sluice'), 'utf8')
    const [, main] = /^exec node (\S+) "\$@"$/m.exec(wrapper)!
    expect(main).toBe(`${theOnly(image!, 'WORKDIR')}/packages/cli/main.ts`)
    expect(copiesOf(image!)).toContainEqual({ sources: ['infra/docker/sluice'], target: '/usr/local/bin/sluice' })
  })

  test('differs from the others in the role alone, so that the layers are shared', () => {
    const steps = (name: string) =>
      readStages(`Dockerfile.${name}`).map((stage) =>
        stage.filter((one) => !['LABEL', 'EXPOSE', 'HEALTHCHECK', 'CMD'].includes(one.name)),
      )
    expect(steps(role)).toEqual(steps('ingester'))
  })
})
