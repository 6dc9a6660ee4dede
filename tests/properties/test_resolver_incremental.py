"""The incremental engine equals the plain one at every step of histories made to be hard on it."""

import hypothesis
import pytest
from hypothesis import stateful
from hypothesis import strategies as st

from ebbgate_resolver.core.rules import slots
from tests.properties import examples, resolver_stage
from tests.properties import resolver_histories as histories


class Engines(stateful.RuleBasedStateMachine):
    """What fails here becomes small."""

    @stateful.initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.stage = resolver_stage.Stage(lambda options: data.draw(st.sampled_from(options)))

    @stateful.rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        self.stage.choose = lambda options: data.draw(st.sampled_from(options))
        self.stage.move()


TestEnginesAreEqual = Engines.TestCase
TestEnginesAreEqual.settings = hypothesis.settings(
    max_examples=examples.count(20),
    stateful_step_count=30,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@hypothesis.given(st.integers(0, 10**9), st.sampled_from([2, slots._SLOTS, slots._SLOTS]))
@hypothesis.settings(max_examples=examples.count(60), phases=[hypothesis.Phase.generate])
def test_engines_are_equal_over_long_histories(seed: int, slots_of_a_gateway: int) -> None:
    """Dice leave no corner of the worlds aside, as a search that prefers the simple does. Where a gateway has
    two slots they run out, are waited for, and given again.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "_SLOTS", slots_of_a_gateway)
        stage = resolver_stage.Stage(histories.dice(seed))
        for _ in range(60):
            stage.move()
