/**
 * What the options of a namespace permit to whom: the documented matrix.
 *
 * A right has an option for clients and, but for subscribing, one for
 * subscribers; either is enough for whom it is about. A client without a user
 * needs the option for anonymous clients beside it.
 */
import type { Namespace, options } from "./Namespace.ts"

/** The name of an option of a namespace. */
type Key = keyof typeof options

/** What a client may want to do in a channel. */
export type Right = "subscribe" | "publish" | "history" | "presence"

/** What is asked of a client that wants to do it. */
export interface Who {
  /** It has no user. */
  readonly isAnonymous: boolean
  /** It is subscribed to the channel. */
  readonly isSubscribed: boolean
}

interface Needed {
  readonly client: Key
  readonly subscriber?: Key
  readonly anonymous: Key
}

const NEEDED: Readonly<Record<Right, Needed>> = {
  subscribe: { client: "allow_subscribe_for_client", anonymous: "allow_subscribe_for_anonymous" },
  publish: {
    client: "allow_publish_for_client",
    subscriber: "allow_publish_for_subscriber",
    anonymous: "allow_publish_for_anonymous"
  },
  history: {
    client: "allow_history_for_client",
    subscriber: "allow_history_for_subscriber",
    anonymous: "allow_history_for_anonymous"
  },
  presence: {
    client: "allow_presence_for_client",
    subscriber: "allow_presence_for_subscriber",
    anonymous: "allow_presence_for_anonymous"
  }
}

/** The options that would permit it and are not set; none: it is permitted. */
export const missing = (namespace: Namespace, right: Right, who: Who): ReadonlyArray<Key> => {
  const { client, subscriber, anonymous } = NEEDED[right]
  const isForSubscriber = who.isSubscribed && subscriber !== undefined && namespace[subscriber] === true
  return [...(isForSubscriber ? [] : [client]), ...(who.isAnonymous ? [anonymous] : [])].filter(
    (option) => namespace[option] !== true
  )
}
