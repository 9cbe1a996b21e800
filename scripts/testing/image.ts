/**
 * Reads a Dockerfile and the build context as Docker does, as far as ours go. For the tests: there is no Docker engine
 * where they run.
 */
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../roles.ts'

export interface Instruction {
  /** `FROM`, `COPY`, … */
  name: string
  /** Without the continuation of lines. */
  text: string
}

/** The stages in their order, each from its FROM on; comments are gone. */
export function readStages(path: string): Instruction[][] {
  const lines = readFileSync(join(root, path), 'utf8')
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll(/\\\n\s*/g, '')
  const stages: Instruction[][] = []
  for (const line of lines.split('\n').filter((text) => text !== '')) {
    const [, name, text] = /^([A-Z]+) (.*)$/.exec(line) ?? []
    if (name === undefined || text === undefined) throw new Error(`${path}: no instruction: ${line}`)
    if (name === 'FROM') stages.push([])
    stages.at(-1)!.push({ name, text })
  }
  return stages
}

export interface Copy {
  /** A stage's name; undefined: the build context. */
  from?: string | undefined
  sources: string[]
  target: string
}

export function copiesOf(stage: readonly Instruction[]): Copy[] {
  return stage
    .filter(({ name }) => name === 'COPY')
    .map(({ text }) => {
      const words = text.split(' ').filter((word) => !word.startsWith('--'))
      return { from: /--from=(\S+)/.exec(text)?.[1], sources: words.slice(0, -1), target: words.at(-1)! }
    })
}

/** The one instruction of that name in a stage. */
export function theOnly(stage: readonly Instruction[], name: string): string {
  const found = stage.filter((instruction) => instruction.name === name)
  if (found.length !== 1) throw new Error(`${found.length} times ${name}`)
  return found[0]!.text
}

/** The files that the build sees: those of git, and those not yet known to it, that .dockerignore lets through. */
export function contextFiles(): string[] {
  const isIgnored = parseIgnore(readFileSync(join(root, '.dockerignore'), 'utf8'))
  const paths = globSync(['*', '{packages,services,infra}/**'], {
    cwd: root,
    withFileTypes: true,
    exclude: (entry) => entry.name === 'node_modules',
  })
  return paths
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .filter((path) => !isIgnored(path))
}

/** Later lines win; a folder's rule holds for what is in it. */
export function parseIgnore(text: string): (path: string) => boolean {
  const rules = text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => ({ ignores: !line.startsWith('!'), pattern: toRegExp(line.replace(/^!/, '')) }))
  return (path) => rules.findLast(({ pattern }) => pattern.test(path))?.ignores ?? false
}

function toRegExp(glob: string): RegExp {
  const source = glob
    .replaceAll(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll(/\*\*\/|\*/g, (star) => (star === '*' ? '[^/]*' : '(?:.*/)?'))
  return new RegExp(`^${source}(?:/.*)?$`)
}
