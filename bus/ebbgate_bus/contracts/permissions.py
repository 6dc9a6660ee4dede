"""Who may say and hear what on the bus: one table, for the server's configuration, the callout, the clients.

Three accounts, and not one, because NATS checks neither the reply subject of a request nor the deliver
subject of a consumer: within one account whoever may ask JetStream anything can have the answer stored under
any subject (tests/bus/test_reflections.py shows it). What a node or a reader is answered stays in its own
account, where no stream listens; into the streams' account leads only what is listed here. A node reads by
consumers whose name and filter stand in the request's subject, so that they are the server's to check.
"""

import enum

import msgspec

from ebbgate_bus.contracts import streams, subjects

CORE, NODES, READERS, CALLOUT = "EBBGATE", "EBBGATE_NODES", "EBBGATE_READERS", "EBBGATE_CALLOUT"
"""Accounts: the streams with watcher and resolver, the programmers, who only reads, the callout service."""
API = "$JS.API"
FOREIGN_API = f"{subjects.ROOT}.api"
"""JetStream's API as the other accounts see it: their own $JS.API leads to no stream."""

_ROOT, _LIVE = subjects.ROOT, subjects.LIVE
_NODE_NETWORK = f"{_ROOT}.fact.nodenetwork"


class Role(enum.StrEnum):
    WATCHER = "watcher"
    RESOLVER = "resolver"
    PROGRAMMER = "programmer"
    READER = "reader"


class Principal(msgspec.Struct, frozen=True):
    """`node`: of a programmer."""

    role: Role
    node: str = ""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """All that a principal may do. `inbox`: prefix of its answers. `api`: prefix of JetStream's API for it.
    `consumers`: filter → the only name that its consumer may have; empty: any name.
    """

    account: str
    inbox: str
    api: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    consumers: dict[str, str] = {}


def grant(principal: Principal) -> Grant:
    """Raises ValueError for a node's name that can't be one."""
    match principal.role:
        case Role.PROGRAMMER:
            return _programmer(principal.node)
        case Role.READER:
            return _reader()
        case Role.WATCHER:
            return _watcher()
    return _resolver()


def _programmer(node: str) -> Grant:
    """What it said itself it reads by exact subjects: a consumer would deliver headers of its own making."""
    name = subjects.escape(node)
    own = {"STATUS": subjects.status(node), "FACT": subjects.fact("nodenetwork", node)}
    consumers = {
        f"{subjects.ALL_SCOPE}.>": f"{name}-all",
        f"{subjects.ALL_SCOPE}.peer.>": f"{name}-peer",
        f"{subjects.node_scope(node)}.>": f"{name}-own",
    }
    scopes = (subjects.ALL_SCOPE, subjects.node_scope(node))
    live = [f"{subjects.ALL_SCOPE}.>", f"{subjects.node_scope(node)}.>", *own.values()]
    return Grant(
        account=NODES,
        inbox=f"_INBOX.node.{name}",
        api=FOREIGN_API,
        publish=(
            *own.values(),
            subjects.stats(node),
            subjects.dropped(node),
            subjects.beat("programmer", node),
            *(f"{FOREIGN_API}.CONSUMER.CREATE.PLAN.{each}.{filter_}" for filter_, each in consumers.items()),
            *(f"{FOREIGN_API}.CONSUMER.DELETE.PLAN.{each}" for each in consumers.values()),
            *(f"$JS.FC.PLAN.{each}.>" for each in consumers.values()),
            *(f"{FOREIGN_API}.DIRECT.GET.{stream}.{subject}" for stream, subject in own.items()),
            *(f"{FOREIGN_API}.DIRECT.GET.PLAN.{subjects.commit(scope)}" for scope in scopes),
        ),
        subscribe=(f"_INBOX.node.{name}.>", *map(subjects.live, live)),
        consumers=consumers,
    )


def _reader() -> Grant:
    """Everything, and writes nothing. Deleting consumers isn't among it: those of others have known names."""
    names = [stream.name for stream in streams.STREAMS]
    return Grant(
        account=READERS,
        inbox="_INBOX.reader",
        api=FOREIGN_API,
        publish=(
            *(f"{FOREIGN_API}.STREAM.{verb}.{name}" for name in names for verb in ("INFO", "MSG.GET")),
            *(f"{FOREIGN_API}.CONSUMER.CREATE.{name}.>" for name in names),
            *(f"{FOREIGN_API}.CONSUMER.MSG.NEXT.{name}.*" for name in names),
            *(f"$JS.FC.{name}.>" for name in names),
        ),
        subscribe=("_INBOX.reader.>", f"{_LIVE}.>", f"{_ROOT}.drop.*", f"{_ROOT}.beat.>"),
    )


def _watcher() -> Grant:
    """It also removes what nodes said that are gone."""
    return Grant(
        account=CORE,
        inbox="_INBOX.watcher",
        api=API,
        publish=(
            f"{_ROOT}.fact.>",
            f"{_ROOT}.synced.*",
            f"{_ROOT}.status.*",
            f"{_ROOT}.beat.watcher.*",
            *_streams(),
            *_reads(streams.FACT, streams.STATUS),
        ),
        subscribe=(
            "_INBOX.watcher.>",
            f"{_LIVE}.fact.nodenetwork.>",
            f"{_LIVE}.status.>",
            f"{_LIVE}.verdict.>",
        ),
    )


def _resolver() -> Grant:
    return Grant(
        account=CORE,
        inbox="_INBOX.resolver",
        api=API,
        publish=(
            f"{_ROOT}.plan.>",
            f"{_ROOT}.verdict.*",
            f"{_ROOT}.beat.resolver.*",
            *_streams(),
            *_reads(*streams.STATE),
        ),
        subscribe=(
            "_INBOX.resolver.>",
            *(f"{_LIVE}.{kind}.>" for kind in ("fact", "synced", "status", "verdict")),
            *(f"{_ROOT}.beat.{service}.>" for service in ("programmer", "resolver")),
        ),
    )


def _streams() -> tuple[str, ...]:
    return tuple(
        f"{API}.STREAM.{verb}.{each.name}" for each in streams.STREAMS for verb in ("CREATE", "UPDATE")
    )


def _reads(*several: streams.Stream) -> tuple[str, ...]:
    return tuple(
        subject
        for each in several
        for subject in (
            f"{API}.STREAM.MSG.GET.{each.name}",
            f"{API}.CONSUMER.CREATE.{each.name}.>",
            f"{API}.CONSUMER.DELETE.{each.name}.*",
            f"$JS.FC.{each.name}.>",
        )
    )


def may_publish(granted: Grant, subject: str) -> bool:
    return any(_covers(pattern, subject) for pattern in granted.publish)


def may_subscribe(granted: Grant, subject: str) -> bool:
    return any(_covers(pattern, subject) for pattern in granted.subscribe)


def _covers(pattern: str, subject: str) -> bool:
    wanted, given = pattern.split("."), subject.split(".")
    for number, token in enumerate(wanted):
        if token == ">":
            return len(given) > number
        if number == len(given) or (token != "*" and token != given[number]):
            return False
    return len(wanted) == len(given)


def foreign(subject: str) -> str:
    """How the other accounts name what CORE names `subject`."""
    return FOREIGN_API + subject.removeprefix(API) if subject.startswith(f"{API}.") else subject


class Flow(msgspec.Struct, frozen=True):
    """What leads from one account to another: messages of `owner` that `user` hears, or requests of `user`
    that `owner` answers. `subject`: the owner's name of it. `many`: by more than one message.
    """

    owner: str
    user: str
    subject: str
    asked: bool = False
    many: bool = False


def _flows(owner: str, user: str, *heard: str) -> tuple[Flow, ...]:
    return tuple(Flow(owner, user, subject) for subject in heard)


def _asked(user: str, *subjects_: str, many: bool = False) -> tuple[Flow, ...]:
    return tuple(Flow(CORE, user, subject, asked=True, many=many) for subject in subjects_)


FLOWS = (
    *_flows(CORE, NODES, f"{_LIVE}.plan.all.>", f"{_LIVE}.plan.node.>"),
    *_flows(CORE, NODES, f"{_LIVE}.status.*", f"{_LIVE}.fact.nodenetwork.*", "_INBOX.node.>"),
    *_asked(
        NODES, f"{_ROOT}.status.*", f"{_NODE_NETWORK}.*", f"{_ROOT}.stats.*", f"{_ROOT}.beat.programmer.*"
    ),
    *_asked(NODES, f"{API}.CONSUMER.CREATE.PLAN.*.{_ROOT}.plan.>", f"{API}.CONSUMER.DELETE.PLAN.*"),
    *_asked(NODES, "$JS.FC.PLAN.>", f"{API}.DIRECT.GET.STATUS.{_ROOT}.status.*"),
    *_asked(NODES, f"{API}.DIRECT.GET.FACT.{_NODE_NETWORK}.*"),
    *_asked(NODES, *(f"{API}.DIRECT.GET.PLAN.{_ROOT}.plan.{scope}.commit" for scope in ("all", "node.*"))),
    *_flows(CORE, READERS, f"{_LIVE}.>", "_INBOX.reader.>"),
    *_flows(CORE, READERS, *(f"{_ROOT}.beat.{service}.*" for service in ("watcher", "resolver"))),
    # What isn't stored readers hear from the nodes themselves: what is asked of CORE isn't heard in a third.
    *_flows(NODES, READERS, f"{_ROOT}.drop.*", f"{_ROOT}.beat.programmer.*"),
    # There is that account only where a callout is asked.
    *_flows(CALLOUT, READERS, f"{_ROOT}.beat.usher.*"),
    *_asked(READERS, *(f"{API}.CONSUMER.CREATE.{stream.name}.>" for stream in streams.STREAMS)),
    # What clients pull that aren't ours: no consumer of ours can be pulled from.
    *_asked(READERS, *(f"{API}.CONSUMER.MSG.NEXT.{stream.name}.*" for stream in streams.STREAMS), many=True),
    *_asked(READERS, *(f"{API}.STREAM.INFO.{stream.name}" for stream in streams.STREAMS)),
    *_asked(READERS, *(f"{API}.STREAM.MSG.GET.{stream.name}" for stream in streams.STREAMS)),
    *_asked(READERS, *(f"$JS.FC.{stream.name}.>" for stream in streams.STREAMS)),
)
"""All of them. Between accounts nothing else is heard or asked."""
