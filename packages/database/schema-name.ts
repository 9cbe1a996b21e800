/**
 * Whether a schema's name can be quoted without escapes: letters, digits and underscores, as in "bsky", and no longer
 * than PostgreSQL keeps.
 */
export function isSchemaName(name: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]{0,62}$/.test(name)
}
