/** Every variable that a role of ours reads: one env file may serve all of them. Written by `npm run docs`. */
export const VARIABLES: readonly string[] = []
