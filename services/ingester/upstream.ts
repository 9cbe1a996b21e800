/** An upstream by the name that an operator writes: with or without a scheme, of the socket or of the web. */
export interface Upstream {
  /** Without a scheme; cursors and metrics are named after it. A port stays, except `:80` (`hostOf`). */
  host: string
  /** For streams: `wss://host` or `ws://host`. */
  socketUrl: string
  /** For requests: `https://host` or `http://host`. */
  webUrl: string
}

/** Reads the name of an upstream; undefined when it is no host but has a path, credentials or another scheme. */
export function parseUpstream(text: string): Upstream | undefined {
  const [, scheme = 'https', rest = ''] = /^(?:([a-z]+):\/\/)?(.*?)\/*$/i.exec(text) ?? []
  const url = `http://${rest}`
  if (!/^(https?|wss?)$/i.test(scheme) || !URL.canParse(url)) return undefined
  const { host, pathname, search, username } = new URL(url)
  if (pathname !== '/' || search !== '' || username !== '') return undefined
  const secure = /^(https|wss)$/i.test(scheme) ? 's' : ''
  // Read as http, the host has lost an `:80`, which is not the default port of https.
  const at = secure && new URL(`https://${rest}`).port === '80' ? `${host}:80` : host
  return { host, socketUrl: `ws${secure}://${at}`, webUrl: `http${secure}://${at}` }
}
