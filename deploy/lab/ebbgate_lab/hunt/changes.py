"""What may happen to the hunt's cluster: one object changes. Pure but for the dice, which are given.

A change is a function of states, so that it can also be asked what would be if it came before another.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ebbgate_lab.hunt import world
from ebbgate_lab.hunt.world import Gateway, Pod, Policy, State


class Change(msgspec.Struct, frozen=True):
    """`text`: for people. `of`: the state after it, from the one before."""

    text: str
    of: Callable[[State], State]


def first() -> State:
    """Both gateways there, a policy for each team, a pod in every place but the last."""
    return State(
        policies={
            "red": Policy(1, ("0.0.0.0/0",), (), (Gateway("a", "10.168.60.100"),)),
            "blue": Policy(2, ("10.168.60.0/24",), ("10.168.60.201/32",), (Gateway("b", "10.168.60.110"),)),
        },
        roles={"node1": (), "node2": ("a",), "node3": ("b",)},
        addresses=world.EGRESS_IPS,
        pods={
            place.name: Pod(number + 1, team)
            for number, (place, team) in enumerate(
                zip(world.PODS, ("red", "blue", "none", "red"), strict=False)
            )
        },
    )


def draw(dice: random.Random, state: State, number: int) -> tuple[Change, ...]:
    """What happens next: one change, or two at once. `number`: of a pod that may come with it."""
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
    part, value = dice.choice(
        (
            ("destinations", _any_cidrs(dice, 1)),
            ("excluded", _any_cidrs(dice, 0)),
            ("gateways", _any_gateways(dice, state)),
            ("gateways", _any_gateways(dice, state)),
        )
    )
    return _set(
        f"policy {name}: {part} {value}", "policies", name, msgspec.structs.replace(policy, **{part: value})
    )


def _any_policy(dice: random.Random, state: State, number: int) -> Policy:
    return Policy(number, _any_cidrs(dice, 1), _any_cidrs(dice, 0), _any_gateways(dice, state))


def _any_cidrs(dice: random.Random, least: int) -> tuple[str, ...]:
    return tuple(dice.sample(world.CIDRS, dice.randint(least, 2)))


def _any_gateways(dice: random.Random, state: State) -> tuple[Gateway, ...]:
    count = 2 if dice.random() < 0.2 else 1
    return tuple(_any_gateway(dice, state) for _ in range(count))


def _any_gateway(dice: random.Random, state: State) -> Gateway:
    """Mostly one that can serve now: what is dropped shows no wrong source."""
    node = dice.choice(("node2", "node3"))
    roles, ips = state.roles[node], state.addresses[node]
    if roles and dice.random() < 0.8:
        return Gateway(dice.choice(roles), dice.choice([*ips, *ips, ""]))
    return Gateway(dice.choice(world.ROLES), dice.choice([*world.EGRESS_IPS[node], ""]))


def _roles(dice: random.Random, state: State, _: int) -> Change:
    """A gateway loses a label, or has it back."""
    node = dice.choice(("node2", "node3"))
    held = _toggled(dice, world.ROLES, state.roles[node])
    return _set(f"{node} has the roles {sorted(held)}", "roles", node, tuple(sorted(held)))


def _address(dice: random.Random, state: State, _: int) -> Change:
    """A gateway loses an egress IP, or has it back."""
    node = dice.choice(("node2", "node3"))
    held = _toggled(dice, world.EGRESS_IPS[node], state.addresses[node])
    return _set(f"{node} has the addresses {sorted(held)}", "addresses", node, tuple(sorted(held)))


def _toggled(dice: random.Random, possible: Sequence[str], held: Sequence[str]) -> set[str]:
    """One goes or comes back; back rather than away, as what is away serves nobody."""
    absent = [each for each in possible if each not in held]
    one = dice.choice(absent) if absent and dice.random() < 0.7 else dice.choice(possible)
    return set(held) ^ {one}


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
