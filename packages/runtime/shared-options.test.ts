import { expect, test } from 'vitest'
import { defineConfig, loadConfig } from './config.ts'
import { hostNamesProblem, redisOptions } from './shared-options.ts'

const definition = defineConfig({ name: 'one', summary: 'does', options: redisOptions })
const load = (url: string) => loadConfig(definition, { REDIS_URL: url }, { known: [] }).redisUrl

test.each(['redis://h', 'redis://h/', 'redis://h/0', 'rediss://u:p@h:6380/12'])('REDIS_URL=%s is taken', (url) => {
  expect(load(url)).toBe(url)
})

test.each(['redis://h/abc', 'redis://h/0abc', 'redis://h/abc0', 'redis://h/0/1'])(
  'REDIS_URL=%s is refused: its database is no number',
  (url) => {
    expect(() => load(url)).toThrow('names its database by something else than a number, as in redis://host:6379/0')
  },
)

test.each([[[]], [['a.example', 'b-2.example:8080', 'a.example:4430', 'localhost:80', '[::1]', '[2001:db8::1]:8080']]])(
  'hosts are named as the daemons tell them apart: %j',
  (hosts) => {
    expect(hostNamesProblem(hosts)).toBeUndefined()
  },
)

test.each([
  'A.example',
  'a.example:443',
  '[::1]:443',
  'a.example:',
  'a.example:x',
  'https://a.example',
  'a b',
  '[x]',
  '::1',
  '',
  'a.example/',
])('any other name would match no host: "%s" is refused by its name', (host) => {
  expect(hostNamesProblem(['a.example', host, 'B'])).toBe(`names ${host}, which is no host such as gone.example.com`)
})
