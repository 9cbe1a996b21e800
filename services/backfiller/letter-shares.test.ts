import { expect, test } from 'vitest'
import { blamedFor } from './letter-shares.ts'

test('the owner of did:webs is one owner, however the domain is written', () => {
  const owners = ['did:web:a.evil.test', 'did:web:b.EVIL.test', 'did:web:c.eViL.TEST'].map(
    (did) => blamedFor({ did, host: 'pds.test', rev: '' }).owner,
  )
  expect(new Set(owners)).toEqual(new Set(['evil.test']))
})

test('the port of a did:web does not make another owner', () => {
  expect(blamedFor({ did: 'did:web:localhost%3A2583', host: '', rev: '' })).toEqual({
    host: 'localhost:2583',
    owner: 'localhost',
  })
})
