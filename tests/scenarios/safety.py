"""An independent judge of revisions: after every batch, is what PLAN holds safe if no other batch follows?

Shares no code with the resolver but the contracts. A batch that breaks a rule fails the test that fed it.
"""

import ipaddress
from collections.abc import Mapping, Sequence

from ebbgate_bus.contracts import codec, digests, rows, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing

PROBED = 50
"""Destinations at most that are looked at between batches."""


class Safety:
    """`take` every batch of a revision, in the order in which they are stored."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.commits: dict[str, rows.Commit] = {}
        self.revision = 0
        self.batches = 0
        self.freed: set[str] = set()
        self._slots: dict[tuple[str, str], str] = {}

    def take(self, batches: Sequence[tuple[Outgoing, ...]]) -> None:
        told = subjects.ALL_SCOPE in self.commits
        states = [dict(self.rows)]
        for batch in batches:
            self._take(batch)
            states.append(dict(self.rows))
        # Before its first Commit nodes are told nothing.
        if len(batches) > 1 and told:
            _check_between(states)

    def _take(self, batch: tuple[Outgoing, ...]) -> None:
        self.batches += 1
        self._check_form(batch)
        touched = set()
        for message in batch:
            name = subjects.parse(message.subject)
            assert name is not None, message.subject
            if name.kind == "plan.commit":
                self._take_commit(name.scope, message)
            elif name.kind != "plan.writer":
                touched.add(name.scope)
                self._take_row(message)
        in_batch = {message.subject for message in batch}
        # A first filling has its Commits when all rows are there.
        if subjects.ALL_SCOPE in self.commits:
            assert {subjects.commit(scope) for scope in touched if scope} <= in_batch
        else:
            assert not self.commits
        self._check_commits()
        self._check_references()

    def _check_form(self, batch: tuple[Outgoing, ...]) -> None:
        assert len(batch) <= streams.MAX_BATCH
        kinds = [name.kind for message in batch if (name := subjects.parse(message.subject))]
        assert kinds[-1] == "plan.writer"
        assert kinds.count("plan.writer") == 1
        order = [kind == "plan.commit" for kind in kinds[:-1]]
        assert order == sorted(order), "Commits follow the rows"
        commits = [m.subject for m in batch if m.subject.endswith(".commit")]
        assert subjects.commit(subjects.ALL_SCOPE) not in commits[:-1], "the Commit of `all` is the last"
        assert len({message.subject for message in batch}) == len(batch), "one message for each subject"
        writer = codec.decode(batch[-1].subject, batch[-1].payload)
        assert isinstance(writer, rows.Writer)
        assert writer.revision > self.revision
        self.revision = writer.revision

    def _take_row(self, message: Outgoing) -> None:
        assert self.rows.get(message.subject, b"") != message.payload, f"nothing new: {message.subject}"
        assert bool(message.payload) != ("Nats-TTL" in message.headers)
        self.rows.pop(message.subject, None)
        self.freed.discard(message.subject)
        if not message.payload and ".egress." in message.subject:
            self.freed.add(message.subject)
        if message.payload:
            self.rows[message.subject] = message.payload

    def _take_commit(self, scope: str, message: Outgoing) -> None:
        self.commits.pop(scope, None)
        if message.payload:
            commit = codec.decode(message.subject, message.payload)
            assert isinstance(commit, rows.Commit)
            assert commit.revision == self.revision
            self.commits[scope] = commit

    def _check_commits(self) -> None:
        for scope, commit in self.commits.items():
            own = {s: p for s, p in self.rows.items() if (n := subjects.parse(s)) and n.scope == scope}
            assert (commit.count, commit.digest) == (len(own), digests.text(digests.of_rows(own))), scope
        all_commit = self.commits.get(subjects.ALL_SCOPE)
        for scope, commit in self.commits.items():
            if scope != subjects.ALL_SCOPE and commit.all_revision:
                assert all_commit is not None
                assert commit.all_revision <= all_commit.revision, "a node would wait for ever"

    def _check_references(self) -> None:
        decoded = [
            (name, codec.decode(subject, payload))
            for subject, payload in self.rows.items()
            if (name := subjects.parse(subject))
        ]
        sets = {name.ids[0] for name, _ in decoded if name.kind == "plan.set"}
        groups = {name.ids[0] for name, _ in decoded if name.kind == "plan.group"}
        egress = {(n.node, n.ids[0]): row.egress_ip for n, row in decoded if isinstance(row, rows.Egress)}
        for _, row in decoded:
            if isinstance(row, rows.Endpoint):
                assert row.set in sets, f"{row.pod} is in a set that isn't there"
            if isinstance(row, rows.Routes):
                assert {route.group for route in row.routes} <= groups
            if isinstance(row, rows.Group):
                named = {
                    (p.node, str(p.slot)) for paths in (row.ipv4, row.ipv6) if paths for p in paths.paths
                }
                assert {place for place in named if place[1] != "0"} <= egress.keys(), f"{row} leads nowhere"
        self._check_slots(egress)

    def _check_slots(self, egress: dict[tuple[str, str], str]) -> None:
        """A slot never means another egress IP: these tests take less than the hour of its reservation."""
        for place, ip in egress.items():
            assert self._slots.setdefault(place, ip) == ip, f"slot {place} was {self._slots[place]}, is {ip}"


def _check_between(states: Sequence[Mapping[str, bytes]]) -> None:
    """Between the batches each pod has the sources of before or after for whatever it sends to, or none."""
    plans = [_Plan(state) for state in states]
    ips = {ip for plan in plans for ip in plan.endpoints}
    cidrs = sorted({cidr for plan in plans for cidr in plan.cidrs})
    targets = {cidr.partition("/")[0] for cidr in cidrs[:: len(cidrs) // PROBED + 1]}
    for probe in ((ip, to) for ip in ips for to in targets if (":" in ip) == (":" in to)):
        first, *between, last = (plan.source(*probe) for plan in plans)
        assert {*between} <= {first, last, ""}, f"{probe}: {first}, then {between}, then {last}"


class _Plan:
    """What nodes make of rows."""

    def __init__(self, held: Mapping[str, bytes]) -> None:
        decoded = [(name, codec.decode(s, p)) for s, p in held.items() if (name := subjects.parse(s))]
        self.endpoints = {row.ip: row for _, row in decoded if isinstance(row, rows.Endpoint)}
        self._groups = {name.ids[0]: row for name, row in decoded if isinstance(row, rows.Group)}
        self._egress = {
            (n.node, int(n.ids[0])): row.egress_ip for n, row in decoded if isinstance(row, rows.Egress)
        }
        self._sets: dict[str, list[rows.Route]] = {}
        for name, row in decoded:
            if isinstance(row, rows.Routes):
                self._sets.setdefault(name.ids[0], []).extend(row.routes)
        self.cidrs = {route.cidr for routes in self._sets.values() for route in routes}

    def source(self, ip: str, to: str) -> str:
        """The egress IP; "node" if it isn't steered; empty if it is dropped."""
        endpoint = self.endpoints.get(ip)
        if endpoint is None:
            return "node"
        target = ipaddress.ip_address(to)
        fitting = [
            (int(route.cidr.partition("/")[2]), route)
            for route in self._sets[endpoint.set]
            if target in ipaddress.ip_network(route.cidr)
        ]
        if not fitting:
            return "node"
        _, route = max(fitting, key=lambda each: each[0])
        if route.action != rows.Action.STEER:
            return "node" if route.action == rows.Action.EXCLUDE else ""
        group = self._groups.get(route.group)
        paths = group and (group.ipv6 if ":" in to else group.ipv4)
        index = paths.buckets[endpoint.bucket] if paths else rows.NO_PATH
        if not paths or index == rows.NO_PATH:
            return ""
        path = paths.paths[index]
        return self._egress.get((path.node, path.slot), "")
