/** Every rule, in the order of the data path, so that a cause comes before its effects. Pure. */
import { accountsBehind } from './account-rules.ts'
import { LIMITS, type Finding, type Limits, type Rule } from './finding.ts'
import { poolStarved, postgres, postgresAway } from './postgres-rules.ts'
import { clocks, redisAway, redisOld, redisSettings, redisSpeed } from './redis-rules.ts'
import { settlingBehind } from './settling-rules.ts'
import { collectionsAgree, daemons, streamsAgree, unknownVariables, versions } from './setup-rules.ts'
import {
  backfillStalled,
  cursorOld,
  incidents,
  ingesterStopped,
  labelerSilent,
  relayDisconnected,
} from './source-rules.ts'
import {
  backpressure,
  collision,
  dead,
  deadLetters,
  lag,
  stopped,
  stuck,
  unknownGroups,
  wrongType,
} from './stream-rules.ts'
import type { SystemState } from '../system-state.ts'

const RULES: readonly Rule[] = [
  redisAway,
  redisOld,
  postgresAway,
  unknownVariables,
  streamsAgree,
  collectionsAgree,
  redisSettings,
  redisSpeed,
  postgres,
  poolStarved,
  wrongType,
  stopped,
  collision,
  dead,
  stuck,
  ingesterStopped,
  relayDisconnected,
  lag,
  backpressure,
  cursorOld,
  labelerSilent,
  backfillStalled,
  accountsBehind,
  settlingBehind,
  deadLetters,
  unknownGroups,
  daemons,
  versions,
  clocks,
  incidents,
]

/** Everything that is wrong in this state. */
export function diagnose(state: SystemState, limits: Limits = LIMITS): Finding[] {
  return RULES.flatMap((rule) => rule(state, limits))
}
