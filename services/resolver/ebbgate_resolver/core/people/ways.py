"""The ways that rows give to packets: for an endpoint and a destination CIDR, by which gateway, as whom.

Leg: beside the walk, a part of `simulation`. Reads rows only, as a node's kernel would, and so says what they
do, whatever was meant by them.
"""

from collections.abc import Mapping

import msgspec

from ebbgate_bus.contracts import codec, rows, subjects
from ebbgate_resolver.core import addresses
from ebbgate_resolver.core.people.explanation import Outcome


class Way(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """`policy`: the one that decides."""

    outcome: Outcome
    egress_ip: str = ""
    gateway: str = ""
    policy: str = ""

    @property
    def seen(self) -> tuple[str, str, str]:
        """What is to be seen of it from outside: who decided isn't."""
        return (self.outcome, self.egress_ip, self.gateway)


class Table(msgspec.Struct, frozen=True):
    """`endpoints`: by pod and address. `routes`: set → CIDR → route. `cluster`: CIDR → source."""

    endpoints: dict[tuple[str, str], rows.Endpoint] = {}
    routes: dict[str, dict[str, rows.Route]] = {}
    groups: dict[str, rows.Group] = {}
    egress: dict[tuple[str, int], str] = {}
    cluster: dict[str, str] = {}

    def way(self, endpoint: rows.Endpoint | None, cidr: str) -> Way:
        """Of packets to all of `cidr`; narrower routes are none of its business."""
        route = _covering(self.routes.get(endpoint.set, {}), cidr) if endpoint else None
        if endpoint is None or route is None:
            return Way(Outcome.NOT_MATCHED)
        if route.action is rows.Action.EXCLUDE:
            return Way(Outcome.EXCLUDED, policy=route.policy)
        group = self.groups.get(route.group)
        paths = (group.ipv6 if ":" in cidr else group.ipv4) if group else None
        if paths is None or paths.buckets[endpoint.bucket] == rows.NO_PATH:
            return Way(Outcome.DROPPED, policy=route.policy)
        path = paths.paths[paths.buckets[endpoint.bucket]]
        egress_ip = self.egress.get((path.node, path.slot))
        if egress_ip is None:
            return Way(Outcome.DROPPED, gateway=path.node, policy=route.policy)
        return Way(Outcome.STEERED, egress_ip, path.node, route.policy)


def _covering(routes: Mapping[str, rows.Route], cidr: str) -> rows.Route | None:
    """The longest prefix that holds all of `cidr`."""
    network = addresses.network(cidr)
    while network is not None:
        if (route := routes.get(str(network))) is not None:
            return route
        network = network.supernet() if network.prefixlen else None
    return None


def concerned(old: Table, new: Table) -> set[str]:
    """Sets in which some packet may fare otherwise: by other routes, or by other paths of a group. A slot
    that a path names never means another egress IP.
    """
    groups = {
        uid for uid in old.groups.keys() | new.groups.keys() if old.groups.get(uid) != new.groups.get(uid)
    }
    return {
        id_
        for id_ in old.routes.keys() | new.routes.keys()
        if old.routes.get(id_) != new.routes.get(id_)
        or any(route.group in groups for route in new.routes[id_].values())
    }


def table(payloads: Mapping[str, bytes]) -> Table:
    """`payloads`: subject → row, of all scopes. Raises codec.Undecodable."""
    made = Table()
    for subject, payload in payloads.items():
        name, row = subjects.parse(subject), codec.decode(subject, payload)
        match row:
            case rows.Endpoint():
                made.endpoints[row.pod, row.ip] = row
            case rows.Routes() if name:
                made.routes.setdefault(name.ids[0], {}).update({each.cidr: each for each in row.routes})
            case rows.Group() if name:
                made.groups[name.ids[0]] = row
            case rows.Egress() if name:
                made.egress[name.node, int(name.ids[0])] = row.egress_ip
            case rows.Cluster():
                made.cluster[row.cidr] = row.source
    return made
