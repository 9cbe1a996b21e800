/** Makes the programs of the test network listen on 127.0.0.1 only. By themselves they listen on every interface. */
import type { Server } from 'node:http'

export const LOOPBACK = '127.0.0.1'

interface Listening {
  listen(port: number, host?: string): Server
}

/**
 * Call it after the program has set up its routes, so that a wrapper of `listen` that the program installed (websockets
 * do) still runs.
 */
export function onLoopback(app: unknown): void {
  const express = app as Listening
  const listen = express.listen.bind(express)
  express.listen = (port) => listen(port, LOOPBACK)
}
