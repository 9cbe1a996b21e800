/**
 * A pool that runs an action of the test just before or just after a chosen statement: what others write at that
 * moment.
 */
import { DatabasePool, type PoolOptions, type Session } from '@sluice/database/pool.ts'

export interface Happening {
  /** The name of the statement, which is sent outside of a transaction. */
  statement: string
  /** Before the statement is sent, or after its answer. */
  when: 'before' | 'after'
  /** At which occurrence of the statement, counted since the last action. */
  nth: number
  act: () => Promise<unknown>
}

export class EventfulPool extends DatabasePool {
  /** How many actions have run. */
  happened = 0
  /** The next action. It runs once. */
  next: Happening | undefined
  #times = 0

  constructor(options: Pick<PoolOptions, 'url' | 'size'>) {
    super({ schema: 'bsky', role: 'test', byKey: true, ...options })
  }

  override async session<T>(work: (session: Session) => Promise<T>): Promise<T> {
    return super.session((session) => {
      const query: Session['query'] = async (statement, values) => {
        const happening = this.#isNow(statement) ? this.next! : undefined
        if (happening?.when === 'before') await this.#act(happening)
        const answer = await session.query<never>(statement, values)
        if (happening?.when === 'after') await this.#act(happening)
        return answer
      }
      return work({ query })
    })
  }

  #isNow(statement: Parameters<Session['query']>[0]): boolean {
    if (typeof statement === 'string' || statement.name === undefined || statement.name !== this.next?.statement)
      return false
    return ++this.#times === this.next.nth
  }

  async #act({ act }: Happening): Promise<void> {
    this.next = undefined
    this.#times = 0
    this.happened++
    await act()
  }
}
