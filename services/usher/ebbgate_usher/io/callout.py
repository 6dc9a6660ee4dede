"""The callout: nats-server's questions heard, the API server asked, the answers signed.

Several ushers share the questions by a queue group. A question that can't be judged because the API server is
away isn't answered: the server refuses the connection after its timeout, and the client comes again.
"""

import asyncio
import logging
import time

import msgspec
from nats.aio.msg import Msg

from ebbgate_bus.contracts.accounts import CALLOUT_SUBJECT
from ebbgate_bus.contracts.permissions import Principal, Role
from ebbgate_bus.runtime import connection, keys, metrics
from ebbgate_usher.core import claims, tokens
from ebbgate_usher.core.tokens import Rejected
from ebbgate_usher.io import api, reviews

QUEUE = "ebbgate-usher"
AT_ONCE = 64
"""Questions under way; more wait. A fleet that comes back asks a question for each node."""
AGAIN_S = 2.0
LIFE_S = 3600
"""Of a connection whose token doesn't say when it ends."""

log = logging.getLogger(__name__)


class Terms(msgspec.Struct, frozen=True):
    """`accounts`: NAMESPACE/NAME of ServiceAccounts → what they are."""

    audience: str
    accounts: dict[str, Role]


class Callout:
    """`answered`: by outcome. `trouble`: why the API server couldn't be asked at last, or empty."""

    def __init__(self, bus: connection.Bus, server: api.Api, issuer: keys.Key, terms: Terms) -> None:
        self._bus, self._api, self._issuer, self._terms = bus, server, issuer, terms
        self._room = asyncio.Semaphore(AT_ONCE)
        self._under_way: set[asyncio.Task[None]] = set()
        self.answered = {"accepted": 0, "rejected": 0, "unanswered": 0}
        self.reviews = metrics.Histogram()
        self.trouble = "the API server hasn't been asked yet"

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    async def start(self) -> None:
        """Asks the API server once before anybody waits for it: returns when it answers."""
        while True:
            try:
                await self._review("nobody's")
                break
            except (api.Refused, *api.FAILURES):
                log.warning("api.unusable", extra={"fields": {"reason": self.trouble}})
                await asyncio.sleep(AGAIN_S)
        await self._bus.subscribe(CALLOUT_SUBJECT, queue=QUEUE, cb=self._take)

    async def _take(self, message: Msg) -> None:
        await self._room.acquire()
        task = asyncio.ensure_future(self._answer(message))
        self._under_way.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()):
            raise error

    async def _answer(self, message: Msg) -> None:
        try:
            asked = claims.question(message.data)
            outcome = await self._judge(asked)
        except claims.Unreadable as error:
            self._say("unanswered", {"reason": f"a question that can't be read: {error}"})
        except (api.Refused, *api.FAILURES):
            self._say("unanswered", {"reason": self.trouble})
        else:
            issuer, now_s = self._issuer.public, int(time.time())
            jwt = self._signed(claims.answer(asked, outcome, issuer=issuer, now_s=now_s))
            await self._bus.publish(message.reply, jwt.encode())

    async def _judge(self, asked: claims.Question) -> str | Rejected:
        token = asked.connect_opts.auth_token
        found: Principal | Rejected = Rejected("it shows no token")
        if token:
            review = await self._review(token)
            found = tokens.judge(review, self._terms.accounts, audience=self._terms.audience)
        fields = {"client": asked.connect_opts.name, "server": asked.server_id.name}
        if isinstance(found, Rejected):
            self._say("rejected", fields | {"reason": found.reason})
            return found
        now_s = int(time.time())
        expires_s = claims.expiry(token) or now_s + LIFE_S
        issuer = self._issuer.public
        try:
            jwt = claims.user(asked, found, issuer=issuer, now_s=now_s, expires_s=expires_s)
        except ValueError as error:
            return Rejected(str(error))
        self._say("accepted", fields | {"role": str(found.role), "node": found.node})
        return self._signed(jwt)

    async def _review(self, token: str) -> tokens.Review:
        """Raises api.Refused, api.FAILURES."""
        began = time.monotonic()
        try:
            found = await reviews.review(self._api, token, audience=self._terms.audience)
        except (api.Refused, *api.FAILURES) as error:
            self.trouble = f"the API server can't be asked: {str(error) or repr(error)}"
            raise
        self.trouble = ""
        self.reviews.observe(time.monotonic() - began)
        return found

    def _signed(self, unsigned: bytes) -> str:
        return (unsigned + b"." + claims.encoded(self._issuer.sign(unsigned))).decode()

    def _say(self, event: str, fields: dict[str, str]) -> None:
        self.answered[event] += 1
        level = logging.INFO if event == "accepted" else logging.WARNING
        log.log(level, f"connection.{event}", extra={"fields": fields})
