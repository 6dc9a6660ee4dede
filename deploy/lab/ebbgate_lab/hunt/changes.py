"""What may happen to the hunt's cluster: one object changes. Pure but for the dice, which are given.

A change is a function of states, so that it can also be asked what would be if it came before another.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ebbgate_lab import topology
from ebbgate_lab.hunt import world
from ebbgate_lab.hunt.world import Gateway, Pod, Policy, State


class Change(msgspec.Struct, frozen=True):
    """`text`: for people. `of`: the state after it, from the one before. `half`: if it is felt in two steps,
    the state between them.
    """

    text: str
    of: Callable[[State], State]
    half: Callable[[State], State] | None = None


_SOME_OF_BOTH = (
    ("10.168.60.0/24", "fd00:10:168:60::/64"),
    ("10.168.60.201/32", "fd00:10:168:60::201/128"),
)
"""Destinations, and what of them is excluded."""


def first() -> State:
    """Both gateways there, a policy for each team, a pod in every place but the last."""
    return State(
        policies={
            "red": Policy(1, ("0.0.0.0/0", "::/0"), (), (Gateway("a", "10.168.60.100"),)),
            "blue": Policy(2, *_SOME_OF_BOTH, (Gateway("b", topology.twin("10.168.60.110")),)),
        },
        roles={"node1": (), "node2": ("a",), "node3": ("b",)},
        addresses={name: (*world.NODES[name], *world.EGRESS_IPS[name]) for name in world.NODES},
        pods={
            place.name: Pod(number + 1, team)
            for number, (place, team) in enumerate(
                zip(world.PODS, ("red", "blue", "none", "red"), strict=False)
            )
        },
    )


def draw(dice: random.Random, state: State, number: int) -> tuple[Change, ...]:
    """What happens next: one change, or two at once. `number`: of a pod that may come with it."""
    if dice.random() < (0.3 if state.left else 0.05):
        return (_node(dice, state),)
    if dice.random() < 0.1:
        return _reuse(dice, state, number)
    drawn = _draw(dice, state, number)
    if dice.random() < 0.25:
        return drawn, _draw(dice, drawn.of(state), number + 1)
    return (drawn,)


def _draw(dice: random.Random, state: State, number: int) -> Change:
    kinds = (_policy, _policy, _policy, _roles, _address, _pod, _pod)
    return dice.choice(kinds)(dice, state, number)


def _policy(dice: random.Random, state: State, number: int) -> Change:
    name = dice.choice(tuple(world.SELECTS))
    policy = state.policies.get(name)
    if policy is None:
        return _set(f"policy {name} comes", "policies", name, _any_policy(dice, state, number))
    if dice.random() < 0.2:
        return _set(f"policy {name} goes", "policies", name, None)
    if dice.random() < 0.25:
        whole = _any_policy(dice, state, policy.number)
        return _set(f"policy {name}: all of it, {whole}", "policies", name, whole)
    part, value = dice.choice(
        (
            ("destinations", _any_destinations(dice)),
            ("excluded", _any_excluded(dice)),
            ("gateways", _any_gateways(dice, state)),
            ("gateways", _any_gateways(dice, state)),
        )
    )
    return _set(
        f"policy {name}: {part} {value}", "policies", name, msgspec.structs.replace(policy, **{part: value})
    )


def _any_policy(dice: random.Random, state: State, number: int) -> Policy:
    return Policy(number, _any_destinations(dice), _any_excluded(dice), _any_gateways(dice, state))


def _any_destinations(dice: random.Random) -> tuple[str, ...]:
    """Mostly of both families, and more than one of each now and then: of two the narrower wins."""
    return tuple(dice.sample(world.CIDRS, dice.randint(1, 4)))


def _any_excluded(dice: random.Random) -> tuple[str, ...]:
    return tuple(dice.sample(world.CIDRS, dice.randint(0, 2)))


def _any_gateways(dice: random.Random, state: State) -> tuple[Gateway, ...]:
    count = 2 if dice.random() < 0.2 else 1
    return tuple(_any_gateway(dice, state) for _ in range(count))


def _any_gateway(dice: random.Random, state: State) -> Gateway:
    """Mostly one that can serve now: what is dropped shows no wrong source."""
    node = dice.choice(("node2", "node3"))
    roles = state.roles.get(node, ())
    ips = [ip for ip in world.EGRESS_IPS[node] if ip in state.addresses[node]]
    if roles and dice.random() < 0.8:
        return Gateway(dice.choice(roles), dice.choice([*ips, *ips, ""]))
    return Gateway(dice.choice(world.ROLES), dice.choice([*world.EGRESS_IPS[node], ""]))


def _roles(dice: random.Random, state: State, _: int) -> Change:
    """A gateway loses a label, or has it back."""
    node = dice.choice([node for node in ("node2", "node3") if node in state.roles])
    one = _toggled(dice, world.ROLES, state.roles[node])
    held = tuple(sorted({*state.roles[node]} ^ {one}))
    return _set(f"{node} has the roles {held}", "roles", node, held)


def _node(dice: random.Random, state: State) -> Change:
    """A Node object goes, with all of the node still there and running, or comes back. One at a time; and
    never together with something else, as the node may remain as it was just before. Half-way its pods are
    known and it is no gateway: those of another one wait until it is ready.
    """
    if state.left:
        (node,) = state.left
        roles = tuple(role for role in world.ROLES if dice.random() < 0.7)
        text = f"{node} comes back with the roles {roles}"
        return Change(text, lambda before: _with(before, node, roles), lambda before: _with(before, node, ()))
    node = dice.choice(tuple(world.NODES))
    text = f"{node}: its Node object goes"
    return Change(text, lambda before: _without(before, node), lambda before: _with(before, node, ()))


def _with(state: State, node: str, roles: tuple[str, ...]) -> State:
    return msgspec.structs.replace(state, roles={**state.roles, node: roles}, left={})


def _without(state: State, node: str) -> State:
    roles = {name: held for name, held in state.roles.items() if name != node}
    return msgspec.structs.replace(state, roles=roles, left={node: state})


def _address(dice: random.Random, state: State, _: int) -> Change:
    """A gateway loses an egress IP, or has it back."""
    node = dice.choice(("node2", "node3"))
    held = state.addresses[node]
    one = _toggled(dice, world.EGRESS_IPS[node], held)
    others = tuple(ip for ip in held if ip != one)
    if len(others) < len(held):
        return _set(f"{node} loses {one}", "addresses", node, others)
    new = (*others, one) if world.family(one) == "ipv4" else (one, *others)
    return _set(f"{node} has {one}", "addresses", node, new)


def _toggled(dice: random.Random, possible: Sequence[str], held: Sequence[str]) -> str:
    """What goes or comes back; back rather than away, as what is away serves nobody."""
    absent = [each for each in possible if each not in held]
    return dice.choice(absent) if absent and dice.random() < 0.7 else dice.choice(possible)


def _pod(dice: random.Random, state: State, number: int) -> Change:
    """A pod comes, goes, or is replaced by one with the same address that is there before it is gone."""
    place = dice.choice(world.PODS).name
    if place in state.pods and dice.random() < 0.4:
        return _set(f"{place}: its pod goes", "pods", place, None)
    return _comes(dice, place, number)


def _reuse(dice: random.Random, state: State, number: int) -> tuple[Change, ...]:
    """A pod goes, and another comes with its address."""
    place = dice.choice(world.PODS).name
    return _set(f"{place}: its pod goes", "pods", place, None), _comes(dice, place, number)


def _comes(dice: random.Random, place: str, number: int) -> Change:
    pod = Pod(number, dice.choice(world.TEAMS))
    return _set(f"{place}: pod {number} of team {pod.team} comes", "pods", place, pod)


def _set(text: str, part: str, key: str, value: Any) -> Change:
    """The object `key` of a `part` of the state becomes `value`, or absent."""

    def of(state: State) -> State:
        held: Mapping[str, Any] = getattr(state, part)
        others = {name: each for name, each in held.items() if name != key}
        return msgspec.structs.replace(state, **{part: others if value is None else others | {key: value}})

    return Change(text, of)
