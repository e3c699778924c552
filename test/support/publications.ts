/** Arbitrary publications, as envelopes carry them. */
import * as FastCheck from "effect/FastCheck"
import type { ClientInfo, Publication } from "../../src/protocol/Publication.ts"

export const text = FastCheck.string({ unit: "binary" })

export const info: FastCheck.Arbitrary<ClientInfo> = FastCheck.record(
  {
    client: text,
    user: FastCheck.oneof(FastCheck.constant(""), text),
    connInfo: FastCheck.json(),
    chanInfo: FastCheck.json()
  },
  { requiredKeys: ["client", "user"] }
)

export const publication: FastCheck.Arbitrary<Publication> = FastCheck.record(
  {
    data: FastCheck.oneof(text, FastCheck.json(), FastCheck.constantFrom("", "\n", "a\nb\r\n\n", '{\n"a":1e400\n}')),
    json: FastCheck.boolean(),
    info,
    offset: FastCheck.maxSafeNat(),
    epoch: text,
    // `__proto__` has a test of its own.
    tags: FastCheck.dictionary(
      FastCheck.string().filter((key) => key !== "__proto__"),
      text
    )
  },
  { requiredKeys: ["data", "json"] }
)
