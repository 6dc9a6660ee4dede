"""Stories: objects come, change and go, and after every step the rows are what the file says.

Leg: beside the walk. Reads the format of tests/stories/README.md, plays a story in a `world.World` and says
which step differs and how. Reads no files itself; a text that isn't a story is `NotAStory` with the reason.
"""

from typing import Any

import msgspec
import yaml

from ebbgate_cli import expectations, world
from ebbgate_watcher.core import objects

_ACTIONS = ("apply", "delete")


class NotAStory(Exception):
    """The text says where and why."""


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object that vanishes."""

    kind: str
    name: str
    namespace: str = ""
    uid: str = ""


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    apply: list[Any] = []
    delete: list[Named] = []
    order: tuple[str, ...] = ("apply", "delete")
    expect: dict[str, Any] | None = None


class Story(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    steps: list[Step]


class Difference(msgspec.Struct, frozen=True):
    """`step`: counted from 1."""

    step: int
    title: str
    lines: tuple[str, ...]


def parse(text: bytes) -> Story:
    try:
        story = msgspec.convert(yaml.safe_load(text), Story)
    except yaml.YAMLError as error:
        raise NotAStory("not YAML: " + " ".join(str(error).split())) from error
    except (msgspec.ValidationError, RecursionError) as error:
        raise NotAStory(str(error).replace("`", "")) from error
    if not story.steps:
        raise NotAStory("a story needs at least one step")
    for step in story.steps:
        _check(step)
    return story


def _check(step: Step) -> None:
    if not (step.apply or step.delete):
        raise NotAStory(f"step {step.title!r}: at least one of apply and delete is needed")
    if tuple(sorted(step.order)) != _ACTIONS:
        raise NotAStory(f"step {step.title!r}: order is [apply, delete] or [delete, apply]")
    for named in step.delete:
        if named.kind not in objects.KINDS:
            raise NotAStory(f"step {step.title!r}: delete of unknown kind {named.kind!r}")
    try:
        expectations.parse(step.expect or {})
    except msgspec.ValidationError as error:
        raise NotAStory(f"step {step.title!r}: expect: {str(error).replace('`', '')}") from error


def play(story: Story, stage: world.World | None = None) -> tuple[Difference, ...]:
    """The steps that differ; none: the story has passed. `stage`: another world than a fresh one."""
    stage = stage or world.World()
    judge = expectations.Judge()
    found = []
    for number, step in enumerate(story.steps, start=1):
        lines = take(step, stage)
        stage.settle()
        lines += judge.compare(expectations.parse(step.expect or {}), stage)
        if lines:
            found.append(Difference(number, step.title, tuple(lines)))
    return tuple(found)


def take(step: Step, stage: world.World) -> list[str]:
    """Feed a step's changes, and say which of its objects couldn't be used."""
    lines: list[str] = []
    for action in step.order:
        if action == "apply":
            lines += [line for manifest in step.apply if (line := _apply(manifest, stage))]
        else:
            for named in step.delete:
                kind = objects.KINDS[named.kind].fact
                stage.remove(kind, named.name, namespace=named.namespace, uid=named.uid)
    return lines


def _apply(manifest: Any, stage: world.World) -> str:
    seen = objects.normalise(manifest)
    stage.put(seen)
    if isinstance(seen, objects.Unusable):
        # A policy that is no policy is `rejected`, and the step says whether that is expected.
        return "" if seen.kind == "policy" else f"unusable {seen.kind} {seen.name}: {seen.reason}"
    return "; ".join(f"{seen.kind} {seen.uid}: {warning}" for warning in seen.warnings)
