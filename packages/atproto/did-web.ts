/**
 * The host of a did:web, which serves the DID's document. In the form of `URL.host`: in lower case, and with the port
 * if there is one. So the host has one owner (`host-owner.ts`), however the DID is written. Undefined for other
 * methods. https://w3c-ccg.github.io/did-method-web/#web-did-method-specification
 */
export function webHostOf(did: string): string | undefined {
  return /^did:web:(.*)$/s.exec(did)?.[1]?.replaceAll(/%3a/gi, ':').toLowerCase()
}
