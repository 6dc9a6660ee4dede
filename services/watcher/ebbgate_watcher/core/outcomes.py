"""Outcomes: which policy's status is to be written next, and which Event to be said. h11-shaped:
`io.outcomes` sends and waits, and asks here.

    policy seen ──┐                     ┌─▶ occasions ─▶ recorder ─▶ Event
                  ├─▶ due, a moment later ┤
    verdict ──────┘                     └─▶ differs from what the API holds? ─▶ status, applied

Level-triggered: what is to be is compared with what the API holds, so that a restart in an unchanged world
writes nothing. A verdict is written only onto the very object that it is about: uid and generation agree, and
the write names the resourceVersion that was seen, so that one who isn't the leader any more, or sees the
past, writes nothing.

    answer to a status         then
    200                        that is what the API holds
    200, and something lacks   the CRD is another's and drops it: not written again until the verdict changes
    404                        gone, or the CRD has no status: the API is asked which, then each minute
    409                        changed meanwhile: when it is seen, or a little later
    400, 422                   this status is refused: said, and not written again until the verdict changes
    others, or none            the same again, later
"""

from collections.abc import Sequence

import msgspec

from ebbgate_bus.contracts import codec, reports, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_watcher.core import course, held, inputs, lanes, objects, occasions, recorder, statuses

FIELD_MANAGER = "ebbgate"
PLURAL = "ciliumegressgatewaypolicies"
SETTLE_S = 0.1
"""What changes within it is written once: a new policy is judged several times as it is being programmed."""
PACE_S, NUMBERS_PACE_S = 1.0, 5.0
"""Between two writes of one policy; where only numbers and sentences changed, the longer one."""
STALE_S = 2.0
"""After a conflict: so long for the change to be seen."""
LOOK_AGAIN_S = 60.0
"""How often a CRD without status is looked at anew."""
SURE_S = 10.0
"""For so long a CRD that had a status is believed to have one: policies are deleted by the dozen, too."""
STATUS, EVENTS = "status", "events"
GONE, CONFLICT, REFUSED = 404, 409, (400, 422)
OK = (200, 201)


class WriteStatus(msgspec.Struct, frozen=True):
    """Apply this status, by server-side apply."""

    name: str
    body: statuses.Status


class AskKind(msgspec.Struct, frozen=True):
    """Ask for the resources of cilium.io/v2."""


Request = WriteStatus | AskKind | recorder.Create | recorder.Count


class _Resource(msgspec.Struct):
    name: str = ""


class _Resources(msgspec.Struct):
    resources: list[_Resource] = []


class Outcomes:
    """`now`: seconds on any steady clock. `wall`: RFC 3339 with microseconds, as an argument of `next`."""

    def __init__(self, instance: str) -> None:
        self._policies: dict[str, held.Policy] = {}
        self._verdicts: dict[str, reports.Verdict] = {}
        self._heard: dict[str, float] = {}
        self._sent: reports.Verdict | None = None
        self._due: dict[str, float] = {}
        self._unwritten: dict[str, None] = {}
        self._recorder = recorder.Recorder(instance)
        self._lanes = lanes.Lanes((STATUS, EVENTS))
        self._look_at = 0.0
        self._sure_until = 0.0
        self._asking = False
        self._unsupported = False
        self._cut: set[str] = set()
        self._events_first = True

    def hear(self, arrived: Sequence[inputs.Input], now: float) -> None:
        """What of it is about policies, from the source and from the bus."""
        for each in arrived:
            match each:
                case inputs.Seen(kind="policy", object=objects.Observed() as seen):
                    self._see(seen, now)
                case inputs.Vanished(kind="policy"):
                    self._vanish(each)
                case inputs.Listed(kind="policy"):
                    self._list(each, now)
                case inputs.Reported(kind="verdict"):
                    self._report(each, now)

    def rest(self) -> None:
        """Another watcher writes now. What it says will be seen in the API."""
        self._recorder.clear()
        self._unwritten = {}
        for policy in self._policies.values():
            policy.said = policy.given = None

    def begin(self, now: float) -> None:
        """This watcher writes now: everything is to be compared."""
        self._due = dict.fromkeys(self._policies, now + SETTLE_S)
        self._heard = dict.fromkeys(self._heard, now)  # until now it wasn't ours to write

    def behind_s(self, now: float) -> float:
        """Since the first verdict was heard that is to be written, or compared, still. A policy that is
        looked at again for another reason isn't late.
        """
        if self._unsupported:
            return 0.0
        waiting = self._heard.keys() & (self._due.keys() | self._unwritten.keys())
        return now - min((self._heard[name] for name in waiting), default=now)

    def wake_at(self) -> float | None:
        """When to ask `next`, though nothing was heard; None: not before something is."""
        waiting = list(self._due.values())
        if self._recorder:
            waiting.append(self._lanes.opens_at(EVENTS))
        if self._unwritten or self._asking:
            waiting.append(self._lanes.opens_at(STATUS))
        if self._unsupported:
            waiting.append(self._look_at)
        return min(waiting, default=None)

    def next(self, now: float, wall: str) -> Request | None:
        """The request to send now, one at a time: `answered` or `lost` comes before the next `next`."""
        self._judge(now, wall)
        request = self._next(now, wall)
        if request is not None:
            self._lanes.take()
        return request

    def answered(
        self, request: Request, status: int, body: bytes, now: float, patience_s: float = 0.0
    ) -> list[inputs.Input]:
        """`patience_s`: the server's word on when to come back. Answers with what is to be logged."""
        said: list[inputs.Input] = []
        if (lane := _lane(request)) in self._cut:
            self._cut.discard(lane)
            said.append(inputs.Recovered(course.API, lane))
        match request:
            case WriteStatus():
                return said + self._written(request, status, body, now, patience_s)
            case AskKind():
                return said + self._told(status, body, now, patience_s)
            case _:
                return said + self._recorded(request, status, body, now, patience_s)

    def lost(self, request: Request, reason: str, now: float) -> list[inputs.Input]:
        """No answer. Whether it was carried out will be seen, or doesn't matter."""
        self._lanes.fail(_lane(request), now)
        self._cut.add(_lane(request))
        return [inputs.Broken(course.API, reason, _lane(request))]

    def _next(self, now: float, wall: str) -> Request | None:
        """By turns: a thousand Events don't keep statuses waiting."""
        self._events_first = not self._events_first
        turns = (self._next_event, self._next_status)
        first, second = turns if self._events_first else turns[::-1]
        return first(now, wall) or second(now, wall)

    def _next_event(self, now: float, wall: str) -> Request | None:
        return self._recorder.next(wall) if self._lanes.open(EVENTS, now) else None

    def _next_status(self, now: float, wall: str) -> Request | None:
        if not self._lanes.open(STATUS, now):
            return None
        if self._asking or (self._unsupported and now >= self._look_at):
            return AskKind()
        return self._write(wall)

    def _see(self, seen: objects.Observed, now: float) -> None:
        policy = held.read(seen)
        known = self._policies.get(policy.name)
        if known is None or known.uid != policy.uid:
            self._policies[policy.name] = policy
        else:
            known.update(policy)
        self._schedule(policy.name, now)

    def _vanish(self, event: inputs.Vanished) -> None:
        name = subjects.unescape(event.subject.rpartition(".")[2])
        known = self._policies.get(name)
        if known is not None and event.uid in ("", known.uid):
            self._drop(name)

    def _list(self, listed: inputs.Listed, now: float) -> None:
        for each in listed.objects:
            if isinstance(each, objects.Observed):
                self._see(each, now)
        present = {each.subject for each in listed.objects}
        for name in [name for name in self._policies if subjects.fact("policy", name) not in present]:
            self._drop(name)
        self._look_at = now  # the CRD may be another one now

    def _drop(self, name: str) -> None:
        del self._policies[name]
        self._due.pop(name, None)
        self._settle(name)

    def _settle(self, name: str) -> None:
        """Of its last verdict nothing is left to write."""
        self._unwritten.pop(name, None)
        self._heard.pop(name, None)

    def _settle_sent(self, policy: held.Policy) -> None:
        """Its verdict was answered for good; not one that came meanwhile."""
        self._settle(policy.name)
        if self._verdicts.get(policy.name, self._sent) != self._sent:
            self._heard[policy.name] = policy.written_at

    def _report(self, reported: inputs.Reported, now: float) -> None:
        if reported.replaced:
            self._verdicts = {}
        for message in reported.messages:
            name = subjects.unescape(message.subject.rpartition(".")[2])
            if not message.payload:
                self._verdicts.pop(name, None)
                self._heard.pop(name, None)
            elif (verdict := _verdict(message)) is not None:
                self._verdicts[verdict.policy] = verdict
                self._heard.setdefault(verdict.policy, now)
                self._schedule(verdict.policy, now)

    def _schedule(self, name: str, now: float) -> None:
        policy = self._policies.get(name)
        if policy is not None and name in self._verdicts:
            at = max(now + SETTLE_S, policy.written_at + PACE_S, policy.stale_until)
            self._due[name] = min(at, self._due.get(name, at))

    def _judge(self, now: float, wall: str) -> None:
        """What is due: Events into the recorder, and whether its status is to be written."""
        for name in sorted(name for name, at in self._due.items() if at <= now):
            del self._due[name]
            policy, verdict = self._policies[name], self._verdicts.get(name)
            if verdict is None or not policy.is_judged_by(verdict):
                self._settle(name)
                continue
            wanted = statuses.status(verdict, policy.held, _seconds(wall))
            self._say(policy, wanted, now)
            if statuses.same(wanted, policy.held) or policy.was_given(wanted):
                self._heard.pop(name, None)
                continue
            at = policy.written_at + NUMBERS_PACE_S
            if at > now and statuses.gist(wanted) == statuses.gist(policy.held):
                self._due[name] = at
            elif not self._unsupported:
                self._unwritten[name] = None

    def _say(self, policy: held.Policy, wanted: statuses.Status, now: float) -> None:
        before = policy.said if policy.said is not None else statuses.ours(policy.held)
        first = not before  # perhaps said by a predecessor, where the API keeps no status
        about = recorder.Policy(policy.name, policy.uid)
        for occasion in occasions.occasions(before, wanted):
            once = occasion.once or first
            self._recorder.record(about, msgspec.structs.replace(occasion, once=once), now)
        policy.said = wanted

    def _write(self, wall: str) -> WriteStatus | None:
        while self._unwritten:
            name = next(iter(self._unwritten))
            policy, verdict = self._policies[name], self._verdicts.get(name)
            if verdict is not None and policy.is_judged_by(verdict):
                self._sent = verdict
                wanted = statuses.status(verdict, policy.held, _seconds(wall))
                return WriteStatus(name, policy.body(wanted))
            self._settle(name)
        return None

    def _written(
        self, request: WriteStatus, status: int, body: bytes, now: float, patience_s: float
    ) -> list[inputs.Input]:
        policy = self._policies.get(request.name)
        if policy is None or policy.uid != request.body["metadata"]["uid"]:
            return []
        policy.written_at = now
        wanted = request.body["status"]
        if status in OK:
            return self._hold(policy, wanted, body)
        if status == GONE:
            self._asking = now >= self._sure_until
        if status in (GONE, CONFLICT):
            self._unwritten.pop(policy.name, None)
            self._due[policy.name] = policy.stale_until = now + STALE_S
            return []
        reason = f"{status} {_reason(body)}"
        if status in REFUSED:
            self._settle_sent(policy)
            policy.given = (wanted, policy.held)
            return [inputs.Broken(f"{STATUS} of {policy.name}", reason)]
        return self._lanes.refused(STATUS, reason, now, patience_s)

    def _hold(self, policy: held.Policy, wanted: statuses.Status, body: bytes) -> list[inputs.Input]:
        self._settle_sent(policy)
        self._lanes.succeed(STATUS)
        seen = objects.read("policy", body)
        if isinstance(seen, objects.Observed):
            answer = held.read(seen)
            policy.update(answer)
            policy.given = (wanted, answer.held)
        if policy.given is None or statuses.same(wanted, policy.given[1]):
            return [inputs.Recovered(STATUS), inputs.Recovered(f"{STATUS} of {policy.name}")]
        return [inputs.Broken(STATUS, "the CRD is another's and drops parts of the status; see Events")]

    def _told(self, status: int, body: bytes, now: float, patience_s: float) -> list[inputs.Input]:
        """Which resources cilium.io/v2 has: whether a status is one of them. If it is, what was not found is
        gone.
        """
        if status not in (*OK, GONE):
            return self._lanes.refused(STATUS, f"{status} {_reason(body)}", now, patience_s)
        self._lanes.succeed(STATUS)
        self._look_at, self._asking = now + LOOK_AGAIN_S, False
        was, self._unsupported = self._unsupported, not _has_status(body)
        if self._unsupported:
            self._unwritten = {}
            # Without the whole CRD there is nothing to be said of its status.
            return [] if status == GONE else [inputs.Broken(STATUS, NO_STATUS)]
        self._sure_until = now + SURE_S
        if was:
            self.begin(now)
        return [inputs.Recovered(STATUS)]

    def _recorded(
        self,
        request: recorder.Create | recorder.Count,
        status: int,
        body: bytes,
        now: float,
        patience_s: float,
    ) -> list[inputs.Input]:
        if status in OK:
            self._recorder.said()
        elif status == CONFLICT and isinstance(request, recorder.Create):
            self._recorder.found()
        elif status == GONE and isinstance(request, recorder.Count):
            self._recorder.missing()
        else:
            reason = f"{status} {_reason(body)}"
            if status in (GONE, CONFLICT, *REFUSED):
                self._recorder.drop()  # it would be refused again
                return [inputs.Broken(EVENTS, reason)]
            return self._lanes.refused(EVENTS, reason, now, patience_s)
        self._lanes.succeed(EVENTS)
        return [inputs.Recovered(EVENTS)]


NO_STATUS = (
    "the CRD of policies has no status (it is Cilium's?), so what became of them is not in it, but in Events "
    "and in `ebbgate policies`"
)


def _verdict(message: Stored) -> reports.Verdict | None:
    """None for one that can't be read: then there is none."""
    try:
        found = codec.decode(message.subject, message.payload)
    except codec.Undecodable:
        return None
    return found if isinstance(found, reports.Verdict) else None


def _lane(request: Request) -> str:
    return EVENTS if isinstance(request, recorder.Create | recorder.Count) else STATUS


def _reason(body: bytes) -> str:
    """The server's words, without the object's name: the same for each is one trouble, said once."""
    text = course.reason_of(body)
    before, forbidden, after = text.partition(" is forbidden: ")
    return f"forbidden: {after}" if forbidden else before


def _has_status(body: bytes) -> bool:
    try:
        found = msgspec.json.decode(body, type=_Resources)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return f"{PLURAL}/status" in {each.name for each in found.resources}


def _seconds(wall: str) -> str:
    return f"{wall[:19]}Z"
