/**
 * DATAPLANE_DEBUG.md as data: its anchors, and the commands in its blocks marked `sh`, cut into words as a shell would.
 * Pure.
 */

export interface DocumentCommand {
  line: number
  text: string
  words: string[]
}

/** Names that `#name` links to. */
export function anchorsOf(text: string): string[] {
  return [...text.matchAll(/^<a id="([\w-]+)"><\/a>$/gm)].map(([, name]) => name!)
}

/** Targets of links within the document. */
export function linksOf(text: string): string[] {
  return [...text.matchAll(/\]\(#([\w-]+)\)/g)].map(([, name]) => name!)
}

/** The commands of each `sh` block. @throws Error for a variable that `variables` does not have */
export function commandsOf(text: string, variables: Readonly<Record<string, string>>): DocumentCommand[][] {
  const blocks: DocumentCommand[][] = []
  let block: DocumentCommand[] | undefined
  for (const [i, line] of text.split('\n').entries()) {
    if (line === '```sh') blocks.push((block = []))
    else if (line.startsWith('```')) block = undefined
    else if (block && line.trim() !== '' && !line.startsWith('#')) {
      block.push({ line: i + 1, text: line, words: words(line, variables) })
    }
  }
  return blocks
}

/** Single quotes keep everything, double quotes and bare words take variables. */
function words(line: string, variables: Readonly<Record<string, string>>): string[] {
  const expand = (text: string): string =>
    text.replaceAll(/\$\{?([A-Z_]+)\}?/g, (_, name: string) => {
      const value = variables[name]
      if (value === undefined) throw new Error(`$${name} is not explained: ${line}`)
      return value
    })
  const found: string[] = []
  for (const [word] of line.matchAll(/(?:'[^']*'|"[^"]*"|[^\s'"])+/g)) {
    found.push(
      word.replaceAll(/'([^']*)'|"([^"]*)"|([^'"]+)/g, (_, single?: string, double?: string, bare?: string) =>
        single === undefined ? expand(double ?? bare ?? '') : single,
      ),
    )
  }
  return found
}
