"""The course of one kind's list and watch: which request comes next, and what an answer means. h11-shaped.

    stream ──all there is, then lines──▶ watch ──lines──▶ watch ──ended, lost──▶ watch from there
     ▲  │ refused, or without an end                        │ 410
     │  └─▶ list ──page──▶ list (continue) ──last page──▶ watch
     └──────────────────────────┴───────────────────────────┘
    any other refusal: the same again, later;   404 on a list: the kind is missing, the same again, later

A stream is a watch that begins with all objects (WatchList, on by default in Kubernetes 1.32 and from 1.34
on): it costs the API server a fraction of a list's memory, and is as fresh. Other servers refuse it, and are
asked for pages; before each list streams are tried anew, since servers are upgraded.

It never sends or waits; `io.kubernetes` does, and asks here. Nothing is lost on any path: a watch is resumed
from the last version seen, and where the API has forgotten that version (410) a complete list replaces what
is known, so that what vanished meanwhile is noticed by its absence.
"""

import msgspec

from ebbgate_watcher.core import inputs, objects, shapes

PAGE_SIZE = 500
"""Objects per page of a list: client-go's choice; some 3 MB of pods."""
FIRST_DELAY_S, MAX_DELAY_S = 0.2, 10.0
"""Waiting after the first failure, doubled after each further one. Bounded low: a lost API server comes back
to few watchers, and what it has to say is what traffic waits for.
"""
MAX_PATIENCE_S = 60.0
"""How long to wait at most when a busy API server says for how long (429, Retry-After)."""
MISSING_DELAY_S = 3.0
QUICK_S = 1.0
"""A watch that ends sooner, and empty, counts as a failure: some proxies close watches at once."""

API = "API server"
"""Origin of troubles with the connection: one trouble, however many kinds notice it."""
GONE_STATUS, MISSING_STATUS = 410, 404
UNKNOWN_STATUSES = (400, 422)
"""What servers say to a request for a stream that they don't know, or have turned off."""
END_OF_STREAM = "k8s.io/initial-events-end"
"""Annotation of the bookmark after the last of all objects (KEP-3157)."""


class Stream(msgspec.Struct, frozen=True):
    """Request a watch that begins with all there is."""


class List(msgspec.Struct, frozen=True):
    """Request the next page of the list."""

    continue_: str = ""


class Watch(msgspec.Struct, frozen=True):
    """Request the watch from a version on."""

    resource_version: str


class Course:
    """One kind's. `next` is what to request now, after waiting for `delay_s`."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._gathered: dict[str, objects.Observed | objects.Unusable] = {}
        self._failures = 0
        self._rest = b""
        self._heard = False
        self._void = False
        self.next: Stream | List | Watch = Stream()
        self.delay_s = 0.0

    def take_page(self, body: bytes, seen_ns: int) -> list[inputs.Input]:
        """The body of a list's page (HTTP 200)."""
        try:
            page = _page.decode(body)
        except shapes.UNDECODABLE as error:
            return self.fail(f"the list doesn't decode: {error}")
        for raw in page.items or ():
            self._gather(objects.read(self._kind, raw))
        self.delay_s = 0.0
        if page.metadata.continue_:
            self.next = List(page.metadata.continue_)
            return [self._connected()]
        return [self._connected(), self._listed(page.metadata.resource_version, seen_ns)]

    def watching(self) -> list[inputs.Input]:
        """The watch, or the stream, has begun (HTTP 200)."""
        self._rest, self._heard, self._void = b"", False, False
        if isinstance(self.next, Stream):
            self._gathered = {}
            return [self._connected()]
        return [self._connected(), inputs.Recovered(self._kind)]

    def void(self) -> bool:
        """Whether the rest of the running watch is to be dropped, as a new list is due."""
        return self._void

    def take_chunk(self, chunk: bytes, seen_ns: int) -> list[inputs.Input]:
        """Bytes of a running watch or stream, cut anywhere."""
        lines, newline, rest = (self._rest + chunk).rpartition(b"\n")
        self._rest = rest
        if not newline or self.void():
            return []
        try:
            events = _lines.decode_lines(lines)
        except shapes.UNDECODABLE as error:
            return self._relist(f"the watch doesn't decode: {error}")
        taken: list[inputs.Input] = []
        for event in events:
            taken += self._take_event(event, seen_ns)
            if self.void():
                break
        return taken

    def ended(self, lasted_s: float) -> list[inputs.Input]:
        """The watch was closed, by either side, without an error: both close it from time to time."""
        if self._void:
            return []
        if isinstance(self.next, Stream):
            self.next = List()  # whoever doesn't know streams, and doesn't say so, at least knows pages
            return self.fail("the stream of all objects has no end")
        if not self._heard and lasted_s < QUICK_S:
            return self.fail("the watch ends as soon as it begins")
        self._failures, self.delay_s = 0, 0.0
        return []

    def refused(self, status: int, reason: str, patience_s: float = 0.0) -> list[inputs.Input]:
        """An HTTP status other than 200. `patience_s`: the server's word on when to come back."""
        said = [self._connected(), *self._take_refusal(status, reason)]
        self.delay_s = max(self.delay_s, min(patience_s, MAX_PATIENCE_S))
        return said

    def lost(self, reason: str, lasted_s: float) -> list[inputs.Input]:
        """No connection, or it broke `lasted_s` after the request."""
        if lasted_s >= QUICK_S:
            self._failures = 0
        self._back_off()
        return [inputs.Broken(API, reason, self._kind)]

    def fail(self, reason: str) -> list[inputs.Input]:
        """An answer that can't be used: the same request again, later."""
        self._back_off()
        return [inputs.Broken(self._kind, reason)]

    def _take_refusal(self, status: int, reason: str) -> list[inputs.Input]:
        if status == GONE_STATUS:
            return self._relist("")
        if status == MISSING_STATUS and not isinstance(self.next, Watch):
            self._restart(MISSING_DELAY_S)
            return [inputs.Listed(self._kind, (), 0, missing=True)]
        if status == MISSING_STATUS:
            return self._relist("")
        if status in UNKNOWN_STATUSES and isinstance(self.next, Stream):
            self.next, self.delay_s = List(), 0.0
            return []
        return self.fail(f"{status} {reason}")

    def _back_off(self) -> None:
        self._failures += 1
        self.delay_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(self._failures - 1, 10))

    def _connected(self) -> inputs.Recovered:
        return inputs.Recovered(API, self._kind)

    def _relist(self, reason: str) -> list[inputs.Input]:
        """List from the beginning. An expired version is everyday life, and not worth a line."""
        # Not at once: a list that expires while it is paged would be begun again without end.
        self._restart(FIRST_DELAY_S)
        return self.fail(reason) if reason else []

    def _restart(self, delay_s: float) -> None:
        self._gathered, self._void, self.next, self.delay_s = {}, True, Stream(), delay_s

    def _take_event(self, event: shapes.WatchLine, seen_ns: int) -> list[inputs.Input]:
        if event.type == "ERROR":
            return self._take_error(event.object)
        self._heard, self._failures, self.delay_s = True, 0, 0.0
        if event.type == "BOOKMARK":
            return self._take_bookmark(event.object, seen_ns)
        seen = objects.read(self._kind, event.object)
        if isinstance(self.next, Stream):
            self._gather(seen, gone=event.type == "DELETED")
            return []
        self._advance(seen.resource_version)
        if event.type == "DELETED":
            uid = seen.uid if isinstance(seen, objects.Observed) else ""
            return [inputs.Vanished(self._kind, seen.subject, uid, seen_ns)]
        return [inputs.Seen(self._kind, seen, seen_ns)]

    def _take_bookmark(self, raw: msgspec.Raw, seen_ns: int) -> list[inputs.Input]:
        version, is_end = _read_bookmark(raw)
        if not isinstance(self.next, Stream):
            self._advance(version)
        elif is_end and version:
            return [inputs.Recovered(self._kind), self._listed(version, seen_ns)]
        return []

    def _gather(self, seen: objects.Observed | objects.Unusable, *, gone: bool = False) -> None:
        """One of all objects. What has no subject is kept only to be named."""
        key = seen.subject or (seen.name if isinstance(seen, objects.Unusable) else "")
        if gone:
            self._gathered.pop(key, None)
        else:
            self._gathered[key] = seen

    def _listed(self, version: str, seen_ns: int) -> inputs.Listed:
        gathered, self._gathered = self._gathered, {}
        self.next = Watch(version)
        return inputs.Listed(self._kind, tuple(gathered.values()), seen_ns)

    def _advance(self, version: str) -> None:
        if version:
            self.next = Watch(version)

    def _take_error(self, raw: msgspec.Raw) -> list[inputs.Input]:
        try:
            status = _status.decode(raw)
        except shapes.UNDECODABLE as error:
            return self._relist(f"an error of the watch doesn't decode: {error}")
        if status.code == GONE_STATUS:
            return self._relist("")
        return self._relist(f"{status.code} {status.reason}: {status.message}")


def reason_of(body: bytes) -> str:
    """What an answer other than 200 says, for people."""
    try:
        return _status.decode(body).message
    except shapes.UNDECODABLE:
        return body[:200].decode(errors="replace")


def _read_bookmark(raw: msgspec.Raw) -> tuple[str, bool]:
    """Its version, and whether all objects of a stream have come."""
    try:
        metadata = _bookmark.decode(raw).metadata or shapes.BookmarkMetadata()
    except shapes.UNDECODABLE:
        return "", False
    return metadata.resource_version or "", (metadata.annotations or {}).get(END_OF_STREAM) == "true"


_page = msgspec.json.Decoder(shapes.Page)
_lines = msgspec.json.Decoder(shapes.WatchLine)
_bookmark = msgspec.json.Decoder(shapes.Bookmark)
_status = msgspec.json.Decoder(shapes.Status)
