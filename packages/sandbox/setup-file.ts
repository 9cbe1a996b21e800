/**
 * Vitest runs this before each test file. Its `afterAll` is registered first and so runs last, after those of the test
 * file.
 */
import { flushCompileCache } from 'node:module'
import { afterAll } from 'vitest'
import { noProcessLeft } from './leftovers.ts'

// Vitest ends its workers by a signal, so Node would not write what it has compiled.
afterAll(() => flushCompileCache())

afterAll(noProcessLeft('the file'))
