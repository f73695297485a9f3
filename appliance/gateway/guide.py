"""What the API reference says in sentences: how to authenticate, what answers tell, how limits count."""

from __future__ import annotations

from typing import Final

from appliance.gateway.admission import SPARE_TOKENS
from appliance.gateway.guard import DELAY_MAX_SECONDS
from appliance.gateway.tallies import WINDOW_SECONDS
from appliance.settings import Settings

_DEFAULTS: Final = {name: field.default for name, field in Settings.model_fields.items()}

INTRODUCTION: Final = """# API reference

Generated from the types that read each request, with `make docs`.
The same as OpenAPI 3.1: [openapi.json](openapi.json).

Send bodies as JSON, uncompressed and without a query string (`/v1/messages` also takes `?beta=true`).
A field that is not listed here is refused, so that nothing is ignored by accident.
*Supported* fields reach the model, *dropped* ones are accepted and change nothing, *refused* ones may only be null.
A value beyond its range is refused and never corrected, but for *clamped* fields:
the engine lowers them to what the model's context has room for, once it has read the prompt.
"""

PARTS: Final = """# Parts of request bodies

Generated as [api.md](api.md) is, which says what the columns mean.
A part that tells itself from others by a field, `type` or `role`, has to have it.
"""

AUTHENTICATION: Final = f"""## Authentication

Send your key as `Authorization: Bearer KEY`, as OpenAI's SDKs do, or as `x-api-key: KEY`, as Anthropic's do; not both.

A key may be bound to models, to families of addresses and to networks.
A model outside of it looks like one that isn't there (404), an address outside of it is refused (403),
and from another network the key counts as a wrong one.
Missing, unknown, revoked, expired and foreign keys all get the same answer (401).
A key that is revoked stops within a second, also for what waits and what runs with it.

Who sends wrong keys is answered ever later, by up to {DELAY_MAX_SECONDS:.0f} seconds.
After {_DEFAULTS["guesses_max"]} of them within a minute the address, in IPv6 its /64, is banned
for {_DEFAULTS["ban_seconds"] // 60} minutes: everything from there is refused (429), good keys included.
The operator may have set other numbers, and can lift a ban.
"""

HEADERS: Final = {
    "x-request-id": "The request's id in the ledger, for questions to the operator. "
    "What is refused before it is counted has none.",
    "request-id": "The same, on `/v1/messages`.",
    "openai-processing-ms": "Milliseconds until the answer began.",
    "x-ratelimit-limit-requests": "Requests per minute: of the key, the account and the model, "
    "the limit with the least left. Only where there is one.",
    "x-ratelimit-remaining-requests": "What is left of it, this request counted.",
    "x-ratelimit-reset-requests": "Time until nothing of it is used, such as `12s`.",
    "x-ratelimit-limit-tokens": "Tokens per minute, input or output: the limit with the least left.",
    "x-ratelimit-remaining-tokens": "What is left of it, the most that this request may use counted.",
    "x-ratelimit-reset-tokens": "Time until nothing of it is used, such as `12s`.",
}
"""What answers tell of their request."""

HEADERS_OF_ALL: Final = {
    "retry-after": "On refusals that pass: seconds after which there should be room.",
    "cache-control": "Always `no-store`.",
    "x-content-type-options": "Always `nosniff`.",
}

LIMITS: Final = f"""
## How limits and budgets count

The operator sets limits for keys, accounts and models, and a request has to fit those of all three.

| Limit | Counts |
|---|---|
| requests, input tokens, output tokens per minute | the second that runs and the {WINDOW_SECONDS - 1} before it: \
{WINDOW_SECONDS} slots of one second, each with what was admitted in it |
| concurrent requests | what is open right now, waiting included |
| tokens, cost per day and per month | calendar days and months in the site's time zone \
(`INFERFLY_TIMEZONE`, {_DEFAULTS["timezone"]} if it isn't set) |

**Reserve, then settle.**
A request is admitted if the most that it may use fits, so that no budget is ever passed.
For input that is a token for each byte that goes to the engine and {SPARE_TOKENS} for the template,
or the whole context if that is less or there are pictures.
For output it is `max_tokens` for each answer, or the whole context where it is left out:
name it, and more of your requests fit at once.
When the request has ended, the tokens that the engine counted take the place of what was reserved,
in the second, the day and the month in which it was admitted.
A refused request counts nothing. One that was cut off counts what the engine had counted by then.

**Larger than a rate.**
A request for more tokens than a rate allows has its turn when the window is empty of tokens.
For budgets there is no such turn.

**When to come back.**
A refusal names the limit, and `retry-after` is the time until the one that frees last has room.
For a budget that is the next day or month.

**What goes on.**
Counts survive a restart: they are read from the ledger. A rotated key goes on with the counts of the one before.

**Waiting for a model.**
A request that fits waits while all engines of its model are busy,
at most {_DEFAULTS["queue_seconds_max"]:.0f} seconds unless the operator sets another limit.
Accounts take turns, so that none waits behind all of another's."""
