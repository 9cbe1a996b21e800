/** Vitest: runs before each test file. Its hook was registered first and so runs last, after the file's own `afterAll`. */
import { afterAll } from 'vitest'
import { noProcessLeft } from './leftovers.ts'

afterAll(noProcessLeft('the file'))
