/**
 * Configuration in a form that may be shown and logged: the values in effect and where they came from, without secrets.
 */
import { namesOf, settingsOf, type Definition, type Env, type Setting } from './config.ts'
import { formatValue } from './config-kinds.ts'
import { redact } from './redact.ts'

export interface MaskedSetting {
  /** The variable's own name, also when an alias was read. */
  readonly name: string
  /** As an operator would write it; a secret is `***`, a URL keeps user and host. Empty when not set. */
  readonly value: string
  /** The variable that was read, `default`, or `not set`. */
  readonly source: string
}

/** The effective configuration. Never throws, so that it can be shown beside the problems that stop a start. */
export function maskConfig(definition: Definition, env: Env): MaskedSetting[] {
  return settingsOf(definition, env).map((setting) => ({
    name: setting.option.env,
    value: masked(setting),
    source: setting.source,
  }))
}

function masked({ option, value }: Setting): string {
  if (value === undefined) return ''
  const text = formatValue(option, value)
  if (!option.secret) return redact(text)
  // The query of a secret URL may hold anything (`?sslpassword=`, `?apikey=`).
  return option.type === 'url' ? redact(text).replace(/\?.*$/s, '?***') : '***'
}

/**
 * The secret texts in the environment, for `createRedactor`: values of secret options, and passwords of URLs.
 *
 * Two kinds of password are left out, because to remove them everywhere would make logs unreadable: one that is also a
 * name in its own URL (`postgres:postgres@`), which hides nothing, and one of less than six characters. The URL itself
 * is masked anyway.
 */
export function secretsOf(definition: Definition, env: Env): string[] {
  const names = new Set(namesOf(definition))
  const urls = [...names].flatMap((name) => (env[name] ?? '').match(/[\w+.-]+:\/\/[^\s,]+/g) ?? [])
  const values = settingsOf(definition, env).flatMap(({ option, value }) => {
    if (value === undefined) return []
    // A URL may have been written without its scheme, so that nothing in the text shows that it is one.
    if (option.type === 'url') return passwordsOf(formatValue(option, value))
    return option.secret ? formatValue(option, value) : []
  })
  return [...values, ...urls.flatMap(passwordsOf)].filter((secret) => secret.length >= 6)
}

function passwordsOf(text: string): string[] {
  if (!URL.canParse(text)) return []
  const { password, username, hostname, pathname, search, protocol } = new URL(text)
  const queried = [...new URLSearchParams(search)].flatMap(([key, value]) =>
    /pass|secret|token|key/i.test(key) ? value : [],
  )
  const names = [username, hostname, pathname.slice(1), protocol.slice(0, -1)]
  return [decode(password), password, ...queried].filter((secret) => !names.includes(secret))
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text // a % that begins no escape: the text is what was typed
  }
}
