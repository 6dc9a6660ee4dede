"""Kubernetes object ─normalise▶ Fact: the first leg of the walk. Pure.

The same path for a manifest from a directory, a test or a story (`normalise`) and for an object as the API
sends it (`read`): JSON bytes into the `shapes`, the shape into a fact. It must never judge: a policy's `spec`
travels as sorted JSON even when it is nonsense, since only the resolver rejects, and says so in a Verdict.
It must never raise for bad input either, so that one bad object leaves all others untouched: what can't be a
fact at all is `Unusable`, what could not be read within a fact is one of its `warnings`.
"""

from collections.abc import Callable
from typing import Any, cast

import msgspec

from ebbgate_bus.contracts import codec, facts, subjects
from ebbgate_watcher.core import parsing, shapes

MAX_BYTES = 3 * 1024 * 1024
"""Of a fact: below the bus's largest payload, and twice what Kubernetes stores of an object by default."""


MAX_DEPTH = 100
"""Levels of a policy's spec; the CRD's has eight."""


class Observed(msgspec.Struct, frozen=True, gc=False):
    """An object that is a fact, as the bytes it is on the bus: this is how 150,000 pods are held. `kind`: the
    fact's ("pod", "policy", …). `uid`: that of the fact where it has one, so never empty. `warnings`: one
    clause for each thing that was left out. `status`: JSON, of policies: no fact, but what we have written.
    """

    subject: str
    payload: bytes
    kind: str
    uid: str
    resource_version: str = ""
    warnings: tuple[str, ...] = ()
    status: bytes = b""

    @property
    def fact(self) -> facts.Fact:
        return cast(facts.Fact, codec.decode(self.subject, self.payload))


class Unusable(msgspec.Struct, frozen=True, gc=False):
    """An object that can't be a fact. `subject`: the fact it would have been, or empty if its name is no
    name. `kind`: the fact's kind, or Kubernetes' word for it if there is no such fact. `name`: for people.
    """

    subject: str
    kind: str
    name: str
    reason: str
    resource_version: str = ""


class _Head(msgspec.Struct, frozen=True, gc=False):
    """What all objects have, with the gaps filled: namespace "default", uid from the name."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: str
    labels: dict[str, str]


_Build = Callable[[_Head, Any, list[str]], facts.Fact]


class _Kind(msgspec.Struct, frozen=True):
    fact: str
    api_versions: tuple[str, ...]
    decoder: msgspec.json.Decoder[Any]
    build: _Build
    namespaced: bool = False


def normalise(manifest: object) -> Observed | Unusable:
    """`manifest`: one whole object as plain Python values, e.g. from YAML."""
    try:
        raw = codec.sorted_json(manifest)
        type_meta = _type_meta.decode(raw)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.ValidationError) as error:
        # What YAML can say and JSON can't: odd keys, huge numbers, aliases that contain themselves.
        return Unusable("", "", "", f"not a Kubernetes object: {error}")
    kind = KINDS.get(type_meta.kind or "")
    if kind is None or (type_meta.api_version or kind.api_versions[0]) not in kind.api_versions:
        what = f"{type_meta.api_version or '(no apiVersion)'} {type_meta.kind or '(no kind)'}"
        return Unusable("", type_meta.kind or "", _display_name(raw), f"not a kind that is watched: {what}")
    return _read(kind, raw)


def read(fact_kind: str, raw: bytes | msgspec.Raw) -> Observed | Unusable:
    """`raw`: JSON of one object, known to be of the kind behind facts of `fact_kind`."""
    return _read(_BY_FACT[fact_kind], raw)


def version_of(raw: bytes | msgspec.Raw) -> str:
    """The resourceVersion of any object, or empty. All that a bookmark has."""
    return _name(raw).resource_version or ""


def _read(kind: _Kind, raw: bytes | msgspec.Raw) -> Observed | Unusable:
    try:
        shape = kind.decoder.decode(raw)
    except shapes.UNDECODABLE as error:
        return Unusable(
            _subject_or_none(kind, raw), kind.fact, _display_name(raw), str(error), version_of(raw)
        )
    metadata: shapes.Metadata = shape.metadata or shapes.Metadata()
    version = metadata.resource_version or ""
    notes: list[str] = []
    head = _head(kind, metadata, notes)
    try:
        subject = _subject(kind, head.namespace, head.name)
    except ValueError as error:
        return Unusable("", kind.fact, _display_name(raw), str(error), version)
    try:
        payload = _payload(kind.build(head, shape, notes))
    except ValueError as error:
        return Unusable(subject, kind.fact, _display_name(raw), str(error), version)
    status = bytes(shape.status) if isinstance(shape, shapes.Policy) else b""
    return Observed(subject, payload, kind.fact, head.uid, version, tuple(notes), status)


def _payload(fact: facts.Fact) -> bytes:
    """Raises ValueError."""
    payload = codec.encode(fact)
    if len(payload) > MAX_BYTES:
        raise ValueError(f"as a fact it has {len(payload)} bytes, and {MAX_BYTES} are allowed")
    return payload


def _head(kind: _Kind, metadata: shapes.Metadata, notes: list[str]) -> _Head:
    namespace = metadata.namespace or "default"
    name = metadata.name or ""
    fallback = f"{namespace}/{name}" if kind.namespaced else name
    return _Head(
        namespace=namespace,
        name=name,
        uid=parsing.parse_token(metadata.uid or "", "metadata.uid", fallback, notes),
        generation=metadata.generation or 0,
        created=parsing.parse_time(metadata.creation_timestamp or "", "metadata.creationTimestamp", notes),
        labels=metadata.labels or {},
    )


def _subject(kind: _Kind, namespace: str, name: str) -> str:
    if not name:
        raise ValueError("it has no name")
    return subjects.fact(kind.fact, *((namespace, name) if kind.namespaced else (name,)))


def _subject_or_none(kind: _Kind, raw: bytes | msgspec.Raw) -> str:
    """The subject of an object whose structure is wrong elsewhere: its last good version may be stored."""
    named = _name(raw)
    try:
        return _subject(kind, named.namespace or "default", named.name or "")
    except ValueError:
        return ""


def _display_name(raw: bytes | msgspec.Raw) -> str:
    named = _name(raw)
    return "/".join(part for part in (named.namespace, named.name) if part)


def _name(raw: bytes | msgspec.Raw) -> shapes.Name:
    try:
        return _named.decode(raw).metadata or shapes.Name()
    except shapes.UNDECODABLE:
        return shapes.Name()


def _pod(head: _Head, shape: shapes.Pod, notes: list[str]) -> facts.Pod:
    spec, status = shape.spec or shapes.PodSpec(), shape.status or shapes.PodStatus()
    ips = [entry.ip for entry in status.pod_ips or () if entry.ip] or [status.pod_ip or ""]
    return facts.Pod(
        namespace=head.namespace,
        name=head.name,
        uid=head.uid,
        node=parsing.parse_token(spec.node_name or "", "spec.nodeName", "", notes),
        ips=parsing.parse_addresses(filter(None, ips), "a pod IP", notes),
        labels=head.labels,
        phase=status.phase or "",
        host_network=bool(spec.host_network),
        created=head.created,
    )


def _namespace(head: _Head, shape: shapes.Object, notes: list[str]) -> facts.Namespace:
    return facts.Namespace(name=head.name, labels=head.labels)


def _node(head: _Head, shape: shapes.Node, notes: list[str]) -> facts.Node:
    spec, status = shape.spec or shapes.NodeSpec(), shape.status or shapes.NodeStatus()
    listed = status.addresses or ()
    internal, external = (
        parsing.parse_addresses((a.address for a in listed if a.type == wanted), f"an {wanted}", notes)
        for wanted in ("InternalIP", "ExternalIP")
    )
    cidrs = spec.pod_cidrs or [spec.pod_cidr or ""]
    return facts.Node(
        name=head.name,
        labels=head.labels,
        internal_ips=internal,
        addresses=tuple(dict.fromkeys(internal + external)),
        pod_cidrs=parsing.parse_networks(filter(None, cidrs), "a pod CIDR", notes),
    )


def _policy(head: _Head, shape: shapes.Policy, notes: list[str]) -> facts.Policy:
    spec = codec.sorted_json(_shallow(msgspec.json.decode(shape.spec)))
    return facts.Policy(
        name=head.name,
        uid=head.uid,
        generation=head.generation,
        created=head.created,
        spec=msgspec.Raw(spec),
    )


def _shallow(spec: object) -> object:
    """`spec`. Raises ValueError if it is nested deeper than who reads the fact could follow."""
    level = [spec]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return spec
    raise ValueError(f"its spec is nested deeper than {MAX_DEPTH} levels")


def _service_cidr(head: _Head, shape: shapes.ServiceCidr, notes: list[str]) -> facts.ServiceCidr:
    cidrs = (shape.spec and shape.spec.cidrs) or ()
    return facts.ServiceCidr(name=head.name, cidrs=parsing.parse_networks(cidrs, "a service CIDR", notes))


def _node_network(head: _Head, shape: shapes.NodeNetwork, notes: list[str]) -> facts.NodeNetwork:
    interfaces = (shape.spec and shape.spec.interfaces) or ()
    return facts.NodeNetwork(
        node=head.name,
        interfaces=tuple(_interface(each, notes) for each in sorted(interfaces, key=lambda i: i.index)),
    )


def _interface(shape: shapes.Interface, notes: list[str]) -> facts.Interface:
    where = f"an address of {shape.name}"
    return facts.Interface(
        name=shape.name,
        index=shape.index,
        alt_names=tuple(shape.alt_names or ()),
        addresses=parsing.parse_interface_addresses(shape.addresses or (), where, notes),
        default_route=tuple(f for f in ("ipv4", "ipv6") if f in (shape.default_route or ())),
    )


_type_meta = msgspec.json.Decoder(shapes.TypeMeta)
_named = msgspec.json.Decoder(shapes.Named)


def _kind(fact: str, api_version: str, shape: type[Any], build: _Build, *, namespaced: bool = False) -> _Kind:
    return _Kind(fact, tuple(api_version.split()), msgspec.json.Decoder(shape), build, namespaced)


KINDS: dict[str, _Kind] = {
    "Pod": _kind("pod", "v1", shapes.Pod, _pod, namespaced=True),
    "Namespace": _kind("namespace", "v1", shapes.Object, _namespace),
    "Node": _kind("node", "v1", shapes.Node, _node),
    "CiliumEgressGatewayPolicy": _kind("policy", "cilium.io/v2", shapes.Policy, _policy),
    "ServiceCIDR": _kind(
        "servicecidr",
        "networking.k8s.io/v1 networking.k8s.io/v1beta1",
        shapes.ServiceCidr,
        _service_cidr,
    ),
    "NodeNetwork": _kind("nodenetwork", "ebbgate.io/v1alpha1", shapes.NodeNetwork, _node_network),
}
"""Kubernetes' kind → how it becomes a fact. NodeNetwork is in no Kubernetes: it comes from manifests of a
directory or a story only, where no programmer reports it.
"""

_BY_FACT = {kind.fact: kind for kind in KINDS.values()}
