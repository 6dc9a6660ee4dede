"""A policy's spec, as written → Policy, or Rejected with the field and what to do about it.

Leg: the first half of Inventory → Rows. Judges a spec by itself and never looks at other objects, so that one
bad policy can't hurt another. The rules are those of Cilium's parser and of its CRD's schema, which a
directory of manifests doesn't enforce. `egressGateway` isn't even looked at beside a non-empty
`egressGateways`, as in Cilium.
"""

from typing import TypeVar

import msgspec

from ebbgate_bus.contracts import digests, facts, rows, subjects
from ebbgate_resolver.core import addresses, answers
from ebbgate_resolver.core.rules import selectors

_Decoded = TypeVar("_Decoded")
GATEWAYS_MAX = 64
"""The schema's maxItems for egressGateways."""
CIDRS_MAX = 65_536
"""Of each list: a quarter of a node's route map, and more than etcd's 1.5 MB for an object usually hold."""


class Rule(msgspec.Struct, frozen=True):
    """One selector: all three parts must match. `nodes` narrows this rule only."""

    pods: selectors.Selector
    namespaces: selectors.Selector
    nodes: selectors.Selector


class GatewayChoice(msgspec.Struct, frozen=True):
    """Which nodes may be the gateway, and how its egress IP is found: neither means the default route."""

    nodes: selectors.Selector
    interface: str = ""
    egress_ip: str = ""


class Policy(msgspec.Struct, frozen=True):
    """CIDRs are in network form, sorted, without doubles. Exclusions outside all destinations are gone.
    `traffic`: hash of rules, destinations and exclusions.
    """

    name: str
    uid: str
    created: str
    rules: tuple[Rule, ...]
    destinations: tuple[str, ...]
    excluded: tuple[str, ...]
    gateways: tuple[GatewayChoice, ...]
    traffic: str

    @property
    def families(self) -> tuple[str, ...]:
        """Those with destinations."""
        present = {addresses.family_of_text(cidr) for cidr in self.destinations}
        return tuple(family for family in addresses.FAMILIES if family in present)

    @property
    def seniority(self) -> tuple[bool, str, str]:
        """Smaller wins a conflict: the older policy, then the smaller name; unknown age is youngest."""
        return (not self.created, self.created, self.name)


class _RuleSpec(msgspec.Struct, frozen=True, rename="camel"):
    pod_selector: selectors.SelectorSpec | None = None
    namespace_selector: selectors.SelectorSpec | None = None
    node_selector: selectors.SelectorSpec | None = None


class _GatewaySpec(
    msgspec.Struct, frozen=True, rename={"node_selector": "nodeSelector", "egress_ip": "egressIP"}
):
    node_selector: selectors.SelectorSpec | None = None
    interface: str | None = None
    egress_ip: str | None = None


_NAMES = {
    "destinations": "destinationCIDRs",
    "excluded": "excludedCIDRs",
    "gateway": "egressGateway",
    "gateways": "egressGateways",
}


class _Spec(msgspec.Struct, frozen=True, rename=_NAMES):
    selectors: list[_RuleSpec] | None = None
    destinations: list[str] | None = None
    excluded: list[str] | None = None
    gateway: msgspec.Raw = msgspec.Raw(b"null")
    gateways: list[_GatewaySpec] | None = None


_spec = msgspec.json.Decoder(_Spec | None)
_gateway = msgspec.json.Decoder(_GatewaySpec | None)


def parse(source: facts.Policy | rows.PolicyInForce, name: str) -> Policy | answers.Rejected:
    try:
        spec = _required(_decode(_spec, bytes(source.spec), "spec"))
        _check_uid(source.uid)
        rules, destinations = _rules(spec), _destinations(spec)
        excluded = _excluded(spec, destinations)
        return Policy(
            name=name,
            uid=source.uid,
            created=source.created,
            rules=rules,
            destinations=destinations,
            excluded=excluded,
            gateways=_gateways(spec),
            traffic=_hash(rules, destinations, excluded),
        )
    except answers.Refusal as refusal:
        return refusal.rejected


def _hash(rules: tuple[Rule, ...], *cidrs: tuple[str, ...]) -> str:
    # "deterministic" puts the values of a selector, a set, in order.
    return digests.short_hash(msgspec.json.encode((rules, cidrs), order="deterministic").decode())


def _required(spec: _Spec | None) -> _Spec:
    if spec is None:
        raise answers.Refusal("spec", "is missing; a policy needs selectors, destinations and a gateway")
    return spec


def _check_uid(uid: str) -> None:
    """It names the policy's group on the bus. Kubernetes' uids always can; another watcher may err."""
    try:
        subjects.group(uid)
    except ValueError as error:
        raise answers.Refusal("metadata.uid", str(error)) from None


def _decode(decoder: msgspec.json.Decoder[_Decoded], raw: bytes, field: str) -> _Decoded:
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError as error:
        # msgspec says "Expected `str`, got `int` - at `$.selectors[0].podSelector`".
        reason, _, path = str(error).partition(" - at `$")
        raise answers.Refusal(field + path.rstrip("`"), reason.replace("`", "")) from None


def _rules(spec: _Spec) -> tuple[Rule, ...]:
    if spec.selectors is None:
        raise answers.Refusal(
            "spec.selectors", "is missing; write [] to choose no pod, [{podSelector: {}}] for all"
        )
    return tuple(_rule(rule, f"spec.selectors[{i}]") for i, rule in enumerate(spec.selectors))


def _rule(rule: _RuleSpec, field: str) -> Rule:
    if rule.pod_selector is None and rule.namespace_selector is None:
        raise answers.Refusal(
            field, "needs a podSelector or a namespaceSelector; nodeSelector alone chooses no pods"
        )
    return Rule(
        pods=_selector(rule.pod_selector, f"{field}.podSelector"),
        namespaces=_selector(rule.namespace_selector, f"{field}.namespaceSelector"),
        nodes=_selector(rule.node_selector, f"{field}.nodeSelector"),
    )


def _selector(spec: selectors.SelectorSpec | None, field: str) -> selectors.Selector:
    return selectors.Selector() if spec is None else selectors.parse(spec, field)


def _destinations(spec: _Spec) -> tuple[str, ...]:
    if spec.destinations is None:
        raise answers.Refusal(
            "spec.destinationCIDRs", "is missing; name what to steer, 0.0.0.0/0 for everything"
        )
    return _cidrs(spec.destinations, "spec.destinationCIDRs")


def _excluded(spec: _Spec, destinations: tuple[str, ...]) -> tuple[str, ...]:
    """Only those inside a destination of the same policy: elsewhere an exclusion would unsteer the traffic of
    other policies.
    """
    outer = frozenset(destinations)
    excluded = _cidrs(spec.excluded or [], "spec.excludedCIDRs")
    return tuple(cidr for cidr in excluded if _is_inside(addresses.network(cidr), outer))


def _is_inside(network: addresses.Network | None, outer: frozenset[str]) -> bool:
    """Up from CIDR to CIDR, at most 128 times: with thousands of each, comparing all pairs takes minutes."""
    while network is not None and str(network) not in outer:
        network = network.supernet() if network.prefixlen else None
    return network is not None


def _cidrs(texts: list[str], field: str) -> tuple[str, ...]:
    if len(texts) > CIDRS_MAX:
        raise answers.Refusal(
            field, f"has {len(texts)} CIDRs, and at most {CIDRS_MAX} are allowed; make it several policies"
        )
    found = set()
    for i, text in enumerate(texts):
        network = addresses.network(text)
        if network is None:
            raise answers.Refusal(
                f"{field}[{i}]",
                f"{text!r} is not a CIDR; write 192.0.2.0/24, or 192.0.2.1/32 for one address",
            )
        found.add(str(network))
    return tuple(sorted(found, key=addresses.network_order))


def _gateways(spec: _Spec) -> tuple[GatewayChoice, ...]:
    if spec.gateways:
        if len(spec.gateways) > GATEWAYS_MAX:
            raise answers.Refusal(
                "spec.egressGateways",
                f"has {len(spec.gateways)} gateways, and at most {GATEWAYS_MAX} are allowed",
            )
        return tuple(_choice(each, f"spec.egressGateways[{i}]") for i, each in enumerate(spec.gateways))
    single = _decode(_gateway, bytes(spec.gateway), "spec.egressGateway")
    if single is None:
        raise answers.Refusal(
            "spec.egressGateway", "is missing; a policy needs egressGateway or egressGateways"
        )
    return (_choice(single, "spec.egressGateway"),)


def _choice(spec: _GatewaySpec, field: str) -> GatewayChoice:
    if spec.node_selector is None:
        raise answers.Refusal(
            f"{field}.nodeSelector", "is missing; write {} if every node may be the gateway"
        )
    if spec.interface and spec.egress_ip:
        raise answers.Refusal(field, "names both interface and egressIP; leave one of them out")
    return GatewayChoice(
        nodes=selectors.parse(spec.node_selector, f"{field}.nodeSelector"),
        interface=spec.interface or "",
        egress_ip=_egress_ip(spec.egress_ip or "", f"{field}.egressIP"),
    )


def _egress_ip(text: str, field: str) -> str:
    if not text:
        return ""
    address = addresses.address(text)
    if address is None:
        raise answers.Refusal(field, f"{text!r} is not an IP address; write it without prefix length")
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        raise answers.Refusal(field, f"{text} can't be the source of a packet that leaves the node")
    return str(address)
