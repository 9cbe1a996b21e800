/** Help and documentation of a configuration, rendered from the literal that defines it. */
import { exampleOf, type Definition, type Options } from './config.ts'
import { expectationOf, formatValue, type Option } from './config-kinds.ts'

/** The text of `--help`. */
export function renderHelp({ name, summary, options }: Definition): string {
  const entries = Object.values(options).map((option) => {
    const aliases = option.aliases?.length ? ` Also read: ${option.aliases.join(', ')}.` : ''
    return `  ${option.env}=${exampleOf(option)}\n      ${option.help}\n      ${capital(expectationOf(option))}; ${presence(option)}.${aliases}\n`
  })
  return `Usage: ${name} [--help]\n\n${name} ${summary}. It is set up by environment variables:\n\n${entries.join('\n')}`
}

/** A markdown table: one row an option. */
export function renderTable(options: Options): string {
  const rows = Object.values(options).map((option) => {
    const aliases = option.aliases?.map((alias) => `, \`${alias}\``).join('') ?? ''
    const fallback = option.default === undefined ? presence(option) : code(formatValue(option, option.default))
    return [`\`${option.env}\`${aliases}`, capital(expectationOf(option)), fallback, option.help]
  })
  const table = [['Variable', 'Value', 'Default', 'Meaning'], ['---', '---', '---', '---'], ...rows]
  return table.map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`).join('')
}

function presence(option: Option): string {
  if (option.default !== undefined) return `default ${formatValue(option, option.default) || '(empty)'}`
  return 'default' in option ? 'optional' : 'required'
}

function code(text: string): string {
  return text === '' ? '(empty)' : `\`${text}\``
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}
