/** Allowed differences in accounts. */
import type { Allowance } from './allowance.ts'

export const accountAllowances: readonly Allowance[] = []
