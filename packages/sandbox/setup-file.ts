/**
 * Vitest runs this before each test file. Its `afterAll` is registered first and so runs last, after those of the test
 * file.
 */
import { afterAll } from 'vitest'
import { noProcessLeft } from './leftovers.ts'

afterAll(noProcessLeft('the file'))
