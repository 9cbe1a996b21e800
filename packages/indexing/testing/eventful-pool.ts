/** A pool with which something happens around a statement, while nothing else goes on: what others write just then. */
import { DatabasePool, type PoolOptions, type Session } from '@sluice/database/pool.ts'

export interface Happening {
  /** The name of the statement, outside of a transaction. */
  statement: string
  /** Before it is sent, or after its answer. */
  when: 'before' | 'after'
  /** The how manieth time since the last happening. */
  nth: number
  act: () => Promise<unknown>
}

export class EventfulPool extends DatabasePool {
  /** How often it has happened. */
  happened = 0
  /** What happens next, once. */
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
