"""All of Ebbgate on one screen: each part, and what is wrong, with what to do. Pure; from what was heard of
the bus and read from it.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from ebbgate_bus.contracts import reports, standing, streams
from ebbgate_cli import lags, lines, nodes, policies

STAYS_S = 10.0
"""Who is behind for less than that may well be at it."""
NAMED_MAX = 3
"""Of a kind of trouble so many are told one by one, the others are counted."""
SERVICES = ("watcher", "resolver")


class Stream(msgspec.Struct, frozen=True):
    """`asked_at_s`: when this was so, by the clock of who stores there."""

    name: str
    messages: int
    bytes: int
    asked_at_s: float = 0.0


class Server(msgspec.Struct, frozen=True):
    """`streams`: those that could be asked about. `missing`: those that aren't there."""

    url: str
    version: str
    streams: tuple[Stream, ...] = ()
    missing: tuple[str, ...] = ()


class Seen(msgspec.Struct, frozen=True):
    """`beats`: of the last seconds. `verdicts`: of every policy that is known. `behind`: who is.
    `by_token`: so we were let in, as it is only where ushers are asked.
    """

    server: Server
    beats: tuple[reports.Beat, ...]
    nodes: tuple[nodes.NodeState, ...]
    verdicts: tuple[reports.Verdict, ...]
    behind: tuple[lags.Lag, ...] = ()
    by_token: bool = False


class Trouble(msgspec.Struct, frozen=True):
    what: str
    to_do: str


class Part(msgspec.Struct, frozen=True):
    name: str
    says: str


class Overview(msgspec.Struct, frozen=True):
    parts: tuple[Part, ...]
    troubles: tuple[Trouble, ...]
    versions: tuple[str, ...]
    behind: tuple[lags.Lag, ...]


def of(seen: Seen) -> Overview:
    return Overview(
        parts=tuple(_parts(seen)),
        troubles=tuple(_troubles(seen)),
        versions=_versions(seen),
        behind=seen.behind,
    )


def _parts(seen: Seen) -> Iterator[Part]:
    held = ", ".join(f"{each.name} {each.messages:,} ({_size(each.bytes)})" for each in seen.server.streams)
    yield Part("bus", f"nats-server {seen.server.version} at {seen.server.url}; {held or 'no streams'}")
    for service in SERVICES:
        yield _service(seen, service)
    if seen.by_token or _alive(seen, "usher"):
        yield _service(seen, "usher", none="none heard (older versions don't beat)")
    current = sum(state.state == "Current" for state in seen.nodes)
    told = f"{len(_alive(seen, 'programmer'))} alive on {len(seen.nodes)} nodes; {current} up to date"
    yield Part("programmer", told)
    yield Part("lag", lines.few(list(map(_lag, seen.behind)), NAMED_MAX) or "nobody is behind")
    ready = sum(standing.hindrance(verdict) is None for verdict in seen.verdicts)
    pods = sum(verdict.pods for verdict in seen.verdicts)
    yield Part("policies", f"{ready} of {len(seen.verdicts)} ready; pods: {pods:,}")
    egress_ips = {ip for state in seen.nodes for ip in state.egress_ips}
    yield Part("egress IPs", lines.few(sorted(egress_ips), NAMED_MAX) or "none")


def _service(seen: Seen, service: str, none: str = "0 alive") -> Part:
    alive = _alive(seen, service)
    return Part(service, f"{len(alive)} alive: {', '.join(alive)}" if alive else none)


def _troubles(seen: Seen) -> Iterator[Trouble]:
    """The bus first, then whoever everything else depends on."""
    if reason := streams.too_old(seen.server.version):
        yield Trouble(reason, "upgrade it; watchers and resolvers wait for that, and traffic goes on")
        return
    if seen.server.missing:
        names = ", ".join(seen.server.missing)
        yield Trouble(f"the bus has no {names}", "has a watcher or a resolver ever run here?")
        return
    for service in SERVICES:
        if not _alive(seen, service):
            yield Trouble(f"no {service} is alive", f"look at its pods and their logs; {_WITHOUT[service]}")
    if len(versions := _versions(seen)) > 1:
        text = f"several versions are running: {', '.join(versions)}"
        yield Trouble(text, "an upgrade goes on, or got stuck")
    for lag in seen.behind:
        if not lag.scopes and lag.for_s >= STAYS_S:
            to_do = "it says there what it waits for" if lag.starting else "has it CPU enough?"
            yield Trouble(_lag(lag), f"look at its log; {to_do}")
    yield from _some(_of_nodes(seen), "nodes", "ebbgate nodes")
    yield from _some(_of_policies(seen.verdicts), "policies", "ebbgate policies")


_WITHOUT = {
    "watcher": "until then nothing that changes in Kubernetes is heard of",
    "resolver": "until then nothing is decided anew",
}


def _lag(lag: lags.Lag) -> str:
    if lag.starting:
        return f"{lag.who}: not ready yet, {lag.for_s:,.0f} s after it started"
    if lag.scopes:
        return (
            f"{lag.who}: lacks the last Commit of {' and '.join(lag.scopes)}, for {lag.for_s:,.0f} s at least"
        )
    return f"{lag.who}: behind for {lag.for_s:,.0f} s"


def _of_nodes(seen: Seen) -> list[Trouble]:
    alive, found = set(_alive(seen, "programmer")), []
    late = {lag.who: lag for lag in seen.behind if lag.scopes and lag.for_s >= STAYS_S}
    for state in seen.nodes:
        if state.state == nodes.NO_PROGRAMMER:
            found.append(Trouble(f"{state.node}: no programmer has ever reported", "does its pod run there?"))
        elif state.node not in alive:
            found.append(Trouble(f"{state.node}: its programmer is silent", "look at its pod and its log"))
        elif state.node in late:
            to_do = "look at its programmer's log; its kernel goes on with the plan before"
            found.append(Trouble(_lag(late[state.node]), to_do))
        found += [
            Trouble(f"{state.node}: {problem}", "run ebbgate-programmer doctor on it")
            for problem in state.problems
        ]
    return found


def _of_policies(verdicts: Iterable[reports.Verdict]) -> list[Trouble]:
    found = []
    for verdict in verdicts:
        hindrance = standing.hindrance(verdict)
        if hindrance is not None:
            said = f"{hindrance.reason}: {hindrance.message}" if hindrance.message else hindrance.reason
            found.append(Trouble(f"policy {verdict.policy}: {said}", f"ebbgate policies {verdict.policy}"))
    return found


def _some(troubles: list[Trouble], kind: str, command: str) -> Iterator[Trouble]:
    yield from troubles[:NAMED_MAX]
    if len(troubles) > NAMED_MAX:
        yield Trouble(f"and {len(troubles) - NAMED_MAX} more troubles of {kind}", command)


def _alive(seen: Seen, service: str) -> list[str]:
    return sorted({beat.name for beat in seen.beats if beat.service == service})


def _versions(seen: Seen) -> tuple[str, ...]:
    return tuple(sorted({beat.version or "unknown" for beat in seen.beats}))


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def known(payloads: Mapping[str, bytes]) -> tuple[tuple[nodes.NodeState, ...], tuple[reports.Verdict, ...]]:
    """From subject → payload of FACT, PLAN and STATUS."""
    return tuple(nodes.states(payloads)), tuple(policies.verdicts(payloads))
