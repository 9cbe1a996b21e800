/** The programs of the test network listen on every interface; here they listen on 127.0.0.1 only. */
import type { Server } from 'node:http'

export const LOOPBACK = '127.0.0.1'

interface Listening {
  listen(port: number, host?: string): Server
}

/** Call it after the program has set up its routes: whoever wrapped `listen` before (websockets do) keeps its part. */
export function onLoopback(app: unknown): void {
  const express = app as Listening
  const listen = express.listen.bind(express)
  express.listen = (port) => listen(port, LOOPBACK)
}
