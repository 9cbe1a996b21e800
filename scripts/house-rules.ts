/**
 * The rules of the house, as a pure function from files to violations.
 *
 * Everything is read from the syntax tree, so that a type import, a dynamic import or a re-export counts like any other
 * and a comment does not. `docs/conventions.md` says what the rules are for.
 */
import { builtinModules, stripTypeScriptTypes } from 'node:module'
import { parseSync, Visitor } from 'oxc-parser'

/** Path (from the root, with `/`) to text: sources and package.json files. */
export type Tree = ReadonlyMap<string, string>

export interface Violation {
  path: string
  line: number
  rule: Rule
  detail: string
}

export type Rule =
  | 'arrow'
  | 'leaves-package'
  | 're-export'
  | 'undeclared'
  | 'version'
  | 'test-code'
  | 'select-star'
  | 'console'
  | 'only'
  | 'length'
  | 'syntax'

const FILE_LINES = 350

const LEVEL_1 = ['events', 'runtime']
const LEVEL_2 = ['collections', 'database', 'streams', 'atproto']
const BELOW_SERVICES = [...LEVEL_1, ...LEVEL_2, 'indexing']

/**
 * What production code of a room may import of ours. The indexing engine writes to the database, so it counts as
 * database.
 */
const MAY_IMPORT: Record<string, readonly string[]> = {
  'packages/events': [],
  'packages/runtime': [],
  ...Object.fromEntries(LEVEL_2.map((name) => [`packages/${name}`, LEVEL_1])),
  'packages/indexing': [...LEVEL_1, ...LEVEL_2],
  'packages/sandbox': BELOW_SERVICES,
  'packages/simulator': [...BELOW_SERVICES, 'sandbox', 'ingester', 'backfiller', 'indexer'],
  'services/ingester': BELOW_SERVICES.filter((name) => name !== 'database' && name !== 'indexing'),
  'services/backfiller': BELOW_SERVICES.filter((name) => name !== 'database' && name !== 'indexing'),
  'services/indexer': BELOW_SERVICES,
  'packages/cli': BELOW_SERVICES,
  scripts: [...BELOW_SERVICES, 'sandbox'],
  '.': [...BELOW_SERVICES, 'sandbox'],
}

/** Rooms that exist for tests, and may use what exists for tests. */
const TEST_ROOMS = new Set(['packages/sandbox', 'packages/simulator'])

const SERVICES = ['ingester', 'backfiller', 'indexer']
/**
 * The command line shows the daemons' configuration, so it reads the literals that define it, and nothing else of
 * theirs.
 */
const CONFIG_OF_SERVICE = /^@sluice\/(ingester|backfiller|indexer)\/config\.ts$/

interface Manifest {
  name?: string
  dependencies?: Record<string, string>
  devDependencies?: Record<string, string>
}

/** Every violation in the tree, by path and line. */
export function houseViolations(tree: Tree): Violation[] {
  const manifests = new Map<string, Manifest>()
  for (const [path, text] of tree) {
    if (path.endsWith('package.json')) manifests.set(roomOf(path), JSON.parse(text) as Manifest)
  }
  const violations = [...tree].flatMap(([path, text]) => {
    return path.endsWith('package.json') ? manifestViolations(path, manifests) : sourceViolations(path, text, manifests)
  })
  return violations.toSorted((a, b) => a.path.localeCompare(b.path) || a.line - b.line)
}

/**
 * Why Node itself would not run the file. Its parser refuses a few things that are TypeScript and that every other
 * parser here reads, Vitest's among them, such as `for (const of of list)`.
 */
function refusalOfNode(text: string): string | undefined {
  try {
    stripTypeScriptTypes(text)
    return undefined
  } catch (error) {
    return `Node does not read it: ${(error as Error).message}`
  }
}

/** A test, a bench, a program that must fail, or what serves only them. */
function isTestCode(path: string): boolean {
  return /\.(test|bench|leak)\.ts$/.test(path) || /\/(testing|oracle|leaks)\//.test(path)
}

/** `packages/events/codec.ts` → `packages/events`. */
function roomOf(path: string): string {
  const [top, name] = path.split('/')
  if (top === 'packages' || top === 'services') return `${top}/${name}`
  return top === 'scripts' ? 'scripts' : '.'
}

function manifestViolations(path: string, manifests: ReadonlyMap<string, Manifest>): Violation[] {
  const room = roomOf(path)
  const { dependencies = {}, devDependencies = {} } = manifests.get(room)!
  const violations: Violation[] = []
  const add = (rule: Rule, detail: string): void => void violations.push({ path, line: 1, rule, detail })
  for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies })) {
    const ours = ownName(name)
    if (version !== (ours ? 'workspace:*' : 'catalog:')) {
      add('version', `${name} is "${version}"; versions live in the catalog of pnpm-workspace.yaml only`)
    }
    const forTests = name in devDependencies
    const isConfig = room === 'packages/cli' && ours !== undefined && SERVICES.includes(ours)
    if (ours && !isConfig && !arrowHolds(room, ours, forTests)) add('arrow', `${room} may not depend on ${name}`)
  }
  return violations
}

function sourceViolations(path: string, text: string, manifests: ReadonlyMap<string, Manifest>): Violation[] {
  const violations: Violation[] = []
  const lineOf = lineFinder(text)
  const add = (rule: Rule, offset: number, detail: string): void => {
    violations.push({ path, line: lineOf(offset), rule, detail })
  }
  const lines = text.split('\n').length - 1
  if (lines > FILE_LINES) add('length', text.length, `${lines} lines; up to ${FILE_LINES}, about 300 wanted`)

  const { program, errors } = parseSync(path, text)
  const unreadable = errors[0]?.message ?? (isTestCode(path) ? undefined : refusalOfNode(text))
  if (unreadable !== undefined) add('syntax', 0, unreadable)
  const reference = (specifier: unknown, offset: number): void => {
    if (typeof specifier !== 'string') return
    for (const { rule, detail } of importProblems(path, specifier, manifests)) add(rule, offset, detail)
  }
  const isRuntime = !isTestCode(path) && !/^(scripts|packages\/(sandbox|simulator))\//.test(path)
  const sql = (literal: string, offset: number): void => {
    if (isRuntime && STAR.test(literal))
      add('select-star', offset, 'name the columns: a new one must not change what is read')
  }
  new Visitor({
    ImportDeclaration: (node) => reference(node.source.value, node.start),
    ExportNamedDeclaration: (node) => reference(node.source?.value, node.start),
    ExportAllDeclaration: (node) => reference(node.source.value, node.start),
    ImportExpression: (node) => reference('value' in node.source ? node.source.value : undefined, node.start),
    TSImportType: (node) => reference(node.source.value, node.start),
    Literal: (node) => typeof node.value === 'string' && sql(node.value, node.start),
    TemplateLiteral: (node) => sql(node.quasis.map((quasi) => quasi.value.cooked ?? '').join(' ? '), node.start),
    MemberExpression(node) {
      if (isRuntime && node.object.type === 'Identifier' && node.object.name === 'console') {
        add('console', node.start, 'a daemon logs through packages/runtime/log.ts')
      }
      const property = node.property.type === 'Identifier' ? node.property.name : undefined
      if (isRuntime && property === 'selectAll')
        add('select-star', node.start, 'selectAll() is SELECT *; name the columns')
      if (isTestCode(path) && property === 'only' && TEST_FUNCTIONS.has(rootName(node.object))) {
        add('only', node.start, 'the other tests of this file would not run')
      }
    },
  }).visit(program)
  for (const { start } of reExports(program.body)) add('re-export', start, 'import the file where it is needed instead')
  if (/^(packages|services)\/.*\/index\.ts$/.test(path))
    add('re-export', 0, 'no barrels: name the file after what it holds')
  return violations
}

/** A star over the arguments of the statement itself names what it reads. */
const STAR =
  /\b(?:select|returning)\s+(?:distinct\s+)?(?:["\w]+\.)?\*(?!\s+from\s+(?:unnest|jsonb?_to_recordset)\s*\()/i
const TEST_FUNCTIONS = new Set(['test', 'it', 'describe', 'suite', 'bench'])

/** `test` of `test.concurrent.only`. */
function rootName(node: { type: string; name?: unknown; object?: unknown; callee?: unknown }): string {
  if (node.type === 'Identifier') return String(node.name)
  const inner = node.object ?? node.callee
  return inner ? rootName(inner as typeof node) : ''
}

function reExports(body: readonly { type: string; start: number }[]): { start: number }[] {
  return body.filter((node) => {
    const { source } = node as { source?: { value: unknown } | null }
    return node.type.startsWith('Export') && typeof source?.value === 'string' && ownName(source.value) !== undefined
  })
}

function importProblems(
  path: string,
  specifier: string,
  manifests: ReadonlyMap<string, Manifest>,
): { rule: Rule; detail: string }[] {
  const room = roomOf(path)
  if (specifier.startsWith('.')) return relativeProblems(path, room, specifier)
  if (specifier.startsWith('node:') || builtinModules.includes(specifier)) return []
  const problems: { rule: Rule; detail: string }[] = []
  const ours = ownName(specifier)
  const isConfig = room === 'packages/cli' && CONFIG_OF_SERVICE.test(specifier)
  if (ours && !isConfig && !arrowHolds(room, ours, isTestCode(path))) {
    problems.push({ rule: 'arrow', detail: `${room} may not import ${specifier}` })
  }
  if (ours && !isTestCode(path) && !TEST_ROOMS.has(room) && isTestCode(specifier)) {
    problems.push({ rule: 'test-code', detail: `${specifier} exists for tests only` })
  }
  const name = packageName(specifier)
  const own = manifests.get(room)
  const root = manifests.get('.')
  const declared = [own?.dependencies]
  // Tools of the workspace (vitest, the sandbox) are declared once, at its root.
  if (isTestCode(path) || TEST_ROOMS.has(room) || !room.includes('/')) {
    declared.push(own?.devDependencies, root?.devDependencies, root?.dependencies)
  }
  if (name !== own?.name && !declared.some((dependencies) => dependencies && name in dependencies)) {
    problems.push({ rule: 'undeclared', detail: `${name} is not among the dependencies of ${room}/package.json` })
  }
  return problems
}

function relativeProblems(path: string, room: string, specifier: string): { rule: Rule; detail: string }[] {
  const target = resolvePath(path, specifier)
  if (roomOf(target) !== room) {
    return [{ rule: 'leaves-package', detail: `${specifier} is in ${roomOf(target)}: import it by its package's name` }]
  }
  if (!isTestCode(path) && isTestCode(target))
    return [{ rule: 'test-code', detail: `${specifier} exists for tests only` }]
  return []
}

function arrowHolds(room: string, target: string, forTests: boolean): boolean {
  if (room === `packages/${target}`) return true
  if (forTests && target === 'sandbox') return true
  return MAY_IMPORT[room]?.includes(target) ?? false
}

/** `@sluice/events/codec.ts` → `events`; undefined for what is not ours. */
function ownName(specifier: string): string | undefined {
  return /^@sluice\/([^/]+)/.exec(specifier)?.[1]
}

function packageName(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')
}

function resolvePath(from: string, specifier: string): string {
  return new URL(specifier, `file:///${from}`).pathname.slice(1)
}

function lineFinder(text: string): (offset: number) => number {
  const starts = [0, ...[...text.matchAll(/\n/g)].map(({ index }) => index + 1)]
  return (offset) => starts.findLastIndex((start) => start <= offset) + 1
}
