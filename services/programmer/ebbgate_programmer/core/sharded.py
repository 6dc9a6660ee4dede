"""Mappings and sets that share with their predecessors what both hold. Between all stations of the walk.

A node may hold 50,000 rows, and an event changes one of them. What is kept of a value is its predecessor's
but for some of SHARDS parts; what changed is found by looking only into parts that are not the same object.
So every step can stay a comparison of two whole values, and still costs what the change costs. Equal content
in other objects, or in plain dicts, is equal: sharing is about cost, never about meaning.
"""

from collections.abc import Collection, ItemsView, Iterable, Iterator, KeysView, Mapping, Set, ValuesView
from itertools import chain
from typing import Any, Generic, TypeVar

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")

SHARDS = 256
"""Of 50,000 entries each has 200: copied or compared in some microseconds."""
# The low bits of a hash are what a shard itself goes by. Keys are texts and Structs: their hashes are spread.
_SHIFT = 24
_EMPTY: dict[Any, Any] = {}


class Absent:
    """Where there is no value: any value may be one."""


ABSENT = Absent()
Difference = tuple[KeyT, ValueT | Absent, ValueT | Absent]
"""A key, and what it has after and before."""


class Sharded(Mapping[KeyT, ValueT]):
    """Never changed once made. `Sharded.of` any mapping; what follows from it is made by `changed`."""

    __slots__ = ("_size", "shards")

    def __init__(self, shards: tuple[dict[KeyT, ValueT], ...] = (_EMPTY,) * SHARDS) -> None:
        self.shards = shards
        self._size = sum(map(len, shards))

    @classmethod
    def of(cls, held: Mapping[KeyT, ValueT]) -> "Sharded[KeyT, ValueT]":
        return held if isinstance(held, Sharded) else cls().changed(held)

    def changed(self, put: Mapping[KeyT, ValueT], gone: Collection[KeyT] = ()) -> "Sharded[KeyT, ValueT]":
        """With `put`, without `gone` (absent ones are no error)."""
        shards = list(self.shards)
        mine = [False] * SHARDS
        for key in gone:
            place = hash(key) >> _SHIFT & SHARDS - 1
            if key in shards[place]:
                if not mine[place]:
                    mine[place], shards[place] = True, shards[place].copy()
                del shards[place][key]
        for key, value in put.items():
            place = hash(key) >> _SHIFT & SHARDS - 1
            if not mine[place]:
                mine[place], shards[place] = True, shards[place].copy()
            shards[place][key] = value
        return Sharded(tuple(shards)) if any(mine) else self

    def like(self, other: Mapping[KeyT, ValueT]) -> "Sharded[KeyT, ValueT]":
        """The same content, in the objects of `other` as far as that has it too."""
        if not isinstance(other, Sharded):
            return self
        pairs = zip(self.shards, other.shards, strict=True)
        return Sharded(tuple(theirs if ours == theirs else ours for ours, theirs in pairs))

    def unshared(self, before: "Sharded[KeyT, ValueT]") -> list[tuple[dict[KeyT, ValueT], ...]]:
        """Parts of this one and of `before` that aren't the same object."""
        pairs = zip(self.shards, before.shards, strict=True)
        return [pair for pair in pairs if pair[0] is not pair[1]]

    def __getitem__(self, key: KeyT) -> ValueT:
        return self.shards[hash(key) >> _SHIFT & SHARDS - 1][key]

    def get(self, key: KeyT, default: Any = None) -> Any:
        return self.shards[hash(key) >> _SHIFT & SHARDS - 1].get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self.shards[hash(key) >> _SHIFT & SHARDS - 1]

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[KeyT]:
        return chain.from_iterable(self.shards)

    def keys(self) -> KeysView[KeyT]:
        return KeysView(self)

    def items(self) -> ItemsView[KeyT, ValueT]:
        return _Items(self)

    def values(self) -> ValuesView[ValueT]:
        return _Values(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sharded):
            return self.shards == other.shards
        if isinstance(other, Mapping):
            return len(self) == len(other) and all(
                other.get(key, ABSENT) == value for key, value in self.items()
            )
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Sharded({dict(self)!r})"


class _Items(ItemsView[KeyT, ValueT]):
    def __init__(self, held: Sharded[KeyT, ValueT]) -> None:
        super().__init__(held)
        self._held = held

    def __iter__(self) -> Iterator[tuple[KeyT, ValueT]]:
        return chain.from_iterable(shard.items() for shard in self._held.shards)


class _Values(ValuesView[ValueT]):
    def __init__(self, held: Sharded[Any, ValueT]) -> None:
        super().__init__(held)
        self._held = held

    def __iter__(self) -> Iterator[ValueT]:
        return chain.from_iterable(shard.values() for shard in self._held.shards)


class ShardedSet(Set[KeyT], Generic[KeyT]):
    """The keys of a Sharded, as a set."""

    __slots__ = ("held",)

    def __init__(self, held: Mapping[KeyT, None] | None = None) -> None:
        self.held: Sharded[KeyT, None] = Sharded.of(held or {})

    @classmethod
    def of(cls, keys: Set[KeyT]) -> "ShardedSet[KeyT]":
        return keys if isinstance(keys, ShardedSet) else cls(dict.fromkeys(keys))

    @classmethod
    def _from_iterable(cls, keys: Iterable[Any]) -> Any:
        return frozenset(keys)

    def changed(self, put: Iterable[KeyT], gone: Collection[KeyT] = ()) -> "ShardedSet[KeyT]":
        held = self.held.changed(dict.fromkeys(put), gone)
        return self if held is self.held else ShardedSet(held)

    def like(self, other: Set[KeyT]) -> "ShardedSet[KeyT]":
        return ShardedSet(self.held.like(other.held)) if isinstance(other, ShardedSet) else self

    def __contains__(self, key: object) -> bool:
        return key in self.held

    def __len__(self) -> int:
        return len(self.held)

    def __iter__(self) -> Iterator[KeyT]:
        return iter(self.held)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ShardedSet):
            return self.held == other.held
        return Set.__eq__(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ShardedSet({set(self)!r})"


def differences(
    after: Mapping[KeyT, ValueT], before: Mapping[KeyT, ValueT]
) -> Iterator[Difference[KeyT, ValueT]]:
    """Keys whose values differ, in no order. Of what shares nothing everything is compared."""
    if after is before:
        return
    pairs: Iterable[tuple[Mapping[KeyT, ValueT], ...]] = ((after, before),)
    if isinstance(after, Sharded) and isinstance(before, Sharded):
        pairs = after.unshared(before)
    for new, old in pairs:
        for key, value in new.items():
            was = old.get(key, ABSENT)
            if was is not value and was != value:
                yield key, value, was
        for key in old.keys() - new.keys():
            yield key, ABSENT, old[key]


def added(after: Set[KeyT], before: Set[KeyT]) -> list[KeyT]:
    """Those of `after` that `before` lacks, in no order."""
    if isinstance(after, ShardedSet) and isinstance(before, ShardedSet):
        return [key for new, old in after.held.unshared(before.held) for key in new.keys() - old.keys()]
    return [key for key in after if key not in before]
