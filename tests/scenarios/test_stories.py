"""Every story, as it is and in expansions: each must end in the same rows, over safe revisions only.

What depends on history by its meaning (the last good version, `unchanged_rows`, `stable`) is compared only
where the history is the story's own.
"""

import pathlib
from collections.abc import Callable

import msgspec
import pytest

from ebbgate_bus.contracts import subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_cli import expectations, stories, world
from ebbgate_resolver.core import engine
from tests.scenarios import safety

STORIES = pathlib.Path(__file__).parents[1] / "stories"
SHARED = pathlib.Path(__file__).parents[3] / "shared" / "conformance"
NOT_YET_SUPPORTED: frozenset[str] = frozenset()
"""Names of stories that don't pass yet. A story that passes doesn't belong here, and the suite says so."""

OWN = "own-"
"""Stories of this repository's own, beside those that are copied."""

ALL = {path.stem: stories.parse(path.read_bytes()) for path in sorted(STORIES.glob("*.yaml"))}


def reversed_(story: stories.Story) -> stories.Story:
    return _each_step(story, lambda step: [_with(step, apply=step.apply[::-1], delete=step.delete[::-1])])


def doubled(story: stories.Story) -> stories.Story:
    return _each_step(
        story,
        lambda step: [
            _with(
                step,
                apply=[each for manifest in step.apply for each in (manifest, manifest)],
                delete=[each for named in step.delete for each in (named, named)],
            )
        ],
    )


def said_again(story: stories.Story) -> stories.Story:
    """After each step an idle one, in which everything that was just applied is seen anew, as in a relist."""
    return _each_step(
        story,
        lambda step: (
            [step, _with(step, title=f"{step.title}, again", delete=[], order=("apply", "delete"))]
            if step.order == ("apply", "delete") and not step.delete
            else [step]
        ),
    )


def per_update(story: stories.Story) -> stories.Story:
    """Settle after each single object; compare at the step's end."""

    def split(step: stories.Step) -> list[stories.Step]:
        parts = []
        for action in step.order:
            for one in getattr(step, action):
                empty: dict[str, object] = {"apply": [], "delete": []}
                parts.append(_with(step, expect=None, **(empty | {action: [one]})))
        return [*parts[:-1], _with(parts[-1], expect=step.expect)]

    return _each_step(story, split)


def _each_step(story: stories.Story, change: Callable[[stories.Step], list[stories.Step]]) -> stories.Story:
    return stories.Story(story.name, [each for step in story.steps for each in change(step)])


def _with(step: stories.Step, **changed: object) -> stories.Step:
    return msgspec.structs.replace(step, **changed)


EXPANSIONS = {"reversed": reversed_, "doubled": doubled, "said again": said_again, "per update": per_update}


def play(story: stories.Story) -> world.World:
    """Play to the end; any difference and any unsafe batch fails."""
    judge, checker = expectations.Judge(), safety.Safety()
    stage = world.World(checker.take)
    for step in story.steps:
        lines = stories.take(step, stage)
        stage.settle()
        assert checker.rows == stage.resolver.live_rows
        if step.expect is not None:
            lines += judge.compare(expectations.parse(step.expect), stage)
        assert lines == [], step.title
    return stage


@pytest.mark.parametrize("name", sorted(ALL.keys() - NOT_YET_SUPPORTED))
def test_story_ends_in_the_rows_it_tells(name: str) -> None:
    play(ALL[name])


def test_stories_not_yet_supported_do_differ() -> None:
    passing = [name for name in sorted(NOT_YET_SUPPORTED) if not stories.play(ALL[name])]
    assert passing == [], "take them off the list"


@pytest.mark.parametrize("expansion", EXPANSIONS)
@pytest.mark.parametrize("name", sorted(ALL.keys() - NOT_YET_SUPPORTED))
def test_expanded_story_ends_in_the_same_rows(name: str, expansion: str) -> None:
    told, expanded = play(ALL[name]), play(EXPANSIONS[expansion](ALL[name]))
    for node in told.nodes:
        assert told.entries(node) == expanded.entries(node)


@pytest.mark.parametrize("name", sorted(ALL.keys() - NOT_YET_SUPPORTED))
def test_story_squashed_to_one_step_ends_in_the_same_rows(name: str) -> None:
    stage, told = world.World(safety.Safety().take), play(ALL[name])
    for step in ALL[name].steps:
        assert stories.take(step, stage) == []
    stage.settle()
    assert stage.entries() == told.entries()
    assert stage.rejected().keys() == told.rejected().keys()


@pytest.mark.parametrize("name", sorted(ALL.keys() - NOT_YET_SUPPORTED))
def test_resolver_restarted_after_any_step_writes_nothing(name: str) -> None:
    recorder = Recorder()
    for step in ALL[name].steps:
        stories.take(step, recorder.stage)
        recorder.stage.settle()
        restarted = recorder.restarted()
        first = restarted.step(recorder.stage.now_s)
        assert (first.batches, first.verdicts) == ((), ()), step.title


class Recorder:
    """Keeps what streams would keep: the last message of each subject."""

    def __init__(self) -> None:
        self.stage = world.World()
        self.streams: dict[str, Stored] = {}
        fold, stored = self.stage.resolver.fold, self.stage.resolver.stored

        def record_fold(messages: list[Stored]) -> None:
            self.streams.update({message.subject: message for message in messages})
            fold(messages)

        def record_stored(step: engine.Step) -> None:
            for message in (*(m for batch in step.batches for m in batch), *step.verdicts):
                self.streams[message.subject] = Stored(message.subject, message.payload, 0)
            stored(step)

        self.stage.resolver.fold = record_fold  # type: ignore[assignment, method-assign]
        self.stage.resolver.stored = record_stored  # type: ignore[method-assign]
        for kind in ("pod", "namespace", "node", "policy", "servicecidr"):
            self.streams[subjects.synced(kind)] = Stored(
                subjects.synced(kind), b'{"kind":"%s"}' % kind.encode(), 0
            )

    def restarted(self) -> engine.Resolver:
        resolver = engine.Resolver()
        resolver.epoch = 2
        by_stream: dict[bool, list[Stored]] = {True: [], False: []}
        for subject, message in sorted(self.streams.items(), reverse=True):
            by_stream[subject.startswith(f"{subjects.ROOT}.plan.")].append(message)
        reports = [m for m in by_stream[False] if m.subject.split(".")[2] in ("status", "verdict")]
        resolver.replace_facts([m for m in by_stream[False] if m not in reports])
        resolver.replace_reports(reports)
        resolver.replace_plan(by_stream[True], self.stage.now_s)
        return resolver


def test_stories_are_copied_unchanged() -> None:
    names = {path.name for path in STORIES.glob("*.yaml") if not path.name.startswith(OWN)}
    assert len(names) >= 29
    if not SHARED.is_dir():
        return  # a checkout without the shared directory has only the copies
    assert names == {path.name for path in SHARED.glob("*.yaml")}
    for name in (*names, "README.md"):
        assert (STORIES / name).read_bytes() == (SHARED / name).read_bytes(), name


def test_names_of_stories_are_their_files() -> None:
    assert all(story.name == stem for stem, story in ALL.items())
