export async function soak(_: { seed: number; events: number; say: (line: string) => void }): Promise<string[]> {
  return []
}
