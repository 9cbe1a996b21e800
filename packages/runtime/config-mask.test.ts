/** O4: what counts as secret of the environment. How it is shown: `config.test.ts`. */
import { expect, test } from 'vitest'
import { defineConfig } from './config.ts'
import { secretsOf } from './config-mask.ts'
import { redisOptions } from './shared-options.ts'

const definition = defineConfig({
  name: 'safe',
  summary: 'keeps',
  options: {
    ...redisOptions,
    relays: { env: 'RELAYS', type: 'list', default: [], help: 'Relays.' },
    key: { env: 'API_KEY', type: 'string', secret: true, default: undefined, example: 'k', help: 'Key.' },
  },
})
const secrets = (env: Record<string, string>): string[] => [...new Set(secretsOf(definition, env))].sort()

test.each<[string, Record<string, string>, string[]]>([
  ['a password of six characters', { REDIS_URL: 'redis://u:abcdef@r' }, ['abcdef']],
  ['and of five none, which would blank out words', { REDIS_URL: 'redis://u:abcde@r' }, []],
  ['a key of six characters', { API_KEY: 'abcdef' }, ['abcdef']],
  ['and of five none', { API_KEY: 'abcde' }, []],
  ['a password as it is and as it was escaped', { REDIS_URL: 'redis://u:p%40ssword@r' }, ['p%40ssword', 'p@ssword']],
  ['one whose % begins no escape', { REDIS_URL: 'redis://u:100%sure@r' }, ['100%sure']],
  ['a password in a query', { REDIS_URL: 'redis://r/0?sslpassword=abcdef&name=ghijkl' }, ['abcdef']],
  ['each of a list', { RELAYS: 'wss://u:abcdef@a,wss://u:ghijkl@b' }, ['abcdef', 'ghijkl']],
  ['a password in a URL without its scheme', { REDIS_URL: ':hunter2@redis:6379' }, ['hunter2']],
  ['the same under another name', { REDIS_HOST: 'u:hunter2@redis' }, ['hunter2']],
  ['a password that is the user', { REDIS_URL: 'redis://default:default@r' }, []],
  ['a password that is the host', { REDIS_URL: 'redis://u:redis-1@redis-1' }, []],
])('%s', (_, env, expected) => {
  expect(secrets(env)).toEqual(expected)
})
