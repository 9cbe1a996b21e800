/** The name of an upstream as an operator writes it: with or without a scheme, of the socket or of the web. */
export interface Upstream {
  /** Without scheme: what cursors and metrics are named after. A port stays, but for `:80` (`hostOf`). */
  host: string
  /** For streams: `wss://host` or `ws://host`. */
  socketUrl: string
  /** For requests: `https://host` or `http://host`. */
  webUrl: string
}

/** @returns nothing when it is no host: a path, credentials, another scheme */
export function parseUpstream(text: string): Upstream | undefined {
  const [, scheme = 'https', rest = ''] = /^(?:([a-z]+):\/\/)?(.*?)\/*$/i.exec(text) ?? []
  const url = `http://${rest}`
  if (!/^(https?|wss?)$/i.test(scheme) || !URL.canParse(url)) return undefined
  const { host, pathname, search, username } = new URL(url)
  if (pathname !== '/' || search !== '' || username !== '') return undefined
  const secure = /^(https|wss)$/i.test(scheme) ? 's' : ''
  // Read as http it has lost an `:80`, which is no default there.
  const at = secure && new URL(`https://${rest}`).port === '80' ? `${host}:80` : host
  return { host, socketUrl: `ws${secure}://${at}`, webUrl: `http${secure}://${at}` }
}
