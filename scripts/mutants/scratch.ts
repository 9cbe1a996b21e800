/**
 * A copy of the working tree to break things in, so that the tree itself is never touched.
 *
 * Sources are copied as they are, committed or not. Dependencies are linked; our own packages are linked among the
 * copies, so that what is broken in one is seen by all.
 */
import { execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { mutate, type Mutant } from './mutant.ts'

export class Scratch implements Disposable {
  readonly root: string

  /** @param from the root of the tree to copy */
  constructor(from: string) {
    this.root = mkdtempSync(join(tmpdir(), 'sluice-mutants-'))
    const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
      cwd: from,
      maxBuffer: 64 << 20,
    })
    // A file may be listed and gone: deleted, and not yet committed.
    for (const path of listed
      .toString()
      .split('\0')
      .filter((name) => name !== '' && existsSync(join(from, name)))) {
      mkdirSync(join(this.root, dirname(path)), { recursive: true })
      cpSync(join(from, path), join(this.root, path))
    }
    linkDependencies(from, this.root)
  }

  /** Puts the fault in place until the result is disposed. */
  with(mutant: Mutant): Disposable {
    const path = join(this.root, mutant.file)
    const text = readFileSync(path, 'utf8')
    writeFileSync(path, mutate(text, mutant))
    return { [Symbol.dispose]: () => writeFileSync(path, text) }
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true, force: true })
  }
}

/**
 * Of the root: a link for each dependency, but not for the folder, since our own packages must be those of the copy.
 * Caches are not shared.
 */
function linkDependencies(from: string, to: string): void {
  const source = join(from, 'node_modules')
  mkdirSync(join(to, 'node_modules'))
  for (const name of readdirSync(source)) {
    if (name === '.pnpm' || !/^[.]|^@sluice$/.test(name))
      symlinkSync(join(source, name), join(to, 'node_modules', name))
  }
  // These are relative links: into `.pnpm` and to the packages beside.
  copyLinks(join(source, '@sluice'), join(to, 'node_modules', '@sluice'))
  for (const floor of ['packages', 'services']) {
    for (const room of readdirSync(join(to, floor))) {
      copyLinks(join(from, floor, room, 'node_modules'), join(to, floor, room, 'node_modules'))
    }
  }
}

function copyLinks(from: string, to: string): void {
  if (existsSync(from)) cpSync(from, to, { recursive: true, verbatimSymlinks: true })
}
