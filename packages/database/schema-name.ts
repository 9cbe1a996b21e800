/** Whether a schema's name needs no thought when quoted: letters, digits and underscores, as in "bsky", and no longer than PostgreSQL keeps. */
export function isSchemaName(name: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]{0,62}$/.test(name)
}
