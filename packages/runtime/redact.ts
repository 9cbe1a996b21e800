/**
 * Removes secrets from text before anybody sees it: log lines, readiness reasons, the effective configuration.
 *
 * It works in two ways. Texts that are known to be secret (passwords in the configuration) are removed wherever they
 * occur, in whatever form. Texts that look like a secret are removed by their shape: user:password in a URL,
 * `password=…`, `"token":"…"`, `Bearer …`. It works on plain text and on serialised JSON, which stays valid. In doubt
 * it removes too much rather than too little.
 */

const MASK = '***'

/**
 * All repetitions have a bound, so that a hostile megabyte costs linear time. Inside JSON a quote of the text is `\"`:
 * an escape counts as one character, and a bare quote ends the text.
 */
const SHAPES: readonly [RegExp, string][] = [
  // scheme://user:password@ up to the last @ of the word, since people put @ and / into passwords
  [/(:\/\/[^:@\s"/?#\\]{0,256}):(?:\\["\\/]|[^\s"\\]){0,4096}@/g, `$1:${MASK}@`],
  // https://token@ (a user name without password is only a name in a database URL, but a credential in a web URL)
  [/((?:https?|wss?):\/\/)(?![^:@\s"/?#\\]{0,256}:)[^:@\s"/?#\\]{1,4096}@/gi, `$1${MASK}@`],
  // password=… in query strings and connection strings
  [/\b(\w{0,40}(?:password|passwd|pwd|secret|token|api_?key|credential)=)[^\s&"',;\\]{1,4096}/gi, `$1${MASK}`],
  // "password":"…" in JSON, also in JSON inside a JSON string, where each quote has backslashes before it
  [
    /((\\{0,7})"[^"\\]{0,40}(?:password|passwd|secret|token|api_?key|authorization|cookie)[^"\\]{0,40}\2":\s?\2")(?:(?!(?<!\\)\2")(?:\\.|[^"])){1,8192}/gi,
    `$1${MASK}`,
  ],
  [/\b(Bearer|Basic|DPoP) [\w+/=.~-]{8,8192}/g, `$1 ${MASK}`],
]

/** Text in, the same text without secrets out. */
export type Redactor = (text: string) => string

/** Removes what looks like a secret. */
export const redact: Redactor = (text) => SHAPES.reduce((rest, [shape, mask]) => rest.replace(shape, mask), text)

/** Removes the given secrets, also where they are percent-encoded or escaped for JSON, and what looks like one. */
export function createRedactor(secrets: Iterable<string>): Redactor {
  const forms = [...secrets].flatMap((secret) => [secret, encodeURIComponent(secret)]).flatMap(nested)
  // Longest first: if a secret contains another one, removing the shorter one first would leave the rest of the longer
  // one.
  const literals = [...new Set(forms)].filter((form) => form !== '').sort((a, b) => b.length - a.length)
  return (text) => redact(literals.reduce((rest, literal) => rest.replaceAll(literal, MASK), text))
}

/** The text itself, and its forms in JSON, in JSON within JSON, and once more. */
function nested(text: string): string[] {
  const forms = [text]
  for (let depth = 0; depth < 3; depth++) forms.push(JSON.stringify(forms[depth]).slice(1, -1))
  return forms
}
