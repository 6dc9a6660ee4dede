"""The incremental engine equals the plain one at every step of histories made to be hard on it.

More than `test_resolver_histories` it moves what indexes could miss: namespaces' and nodes' labels, selectors
with every operator, uids, phases, syncs that come late, reports that lag or complain, time that jumps.
"""

from typing import Any

import hypothesis
import msgspec
from hypothesis import stateful
from hypothesis import strategies as st

from ebbgate_bus.contracts import codec, facts, reports, rows, subjects
from ebbgate_bus.contracts.envelope import Stored
from tests.properties import engine_twins, examples
from tests.properties import resolver_histories as histories
from tests.scenarios import safety
from tests.unit import resolver_objects as objects

NAMES = st.sampled_from("pqrst")
NAMESPACES = st.sampled_from(["default", "other"])
NODES = st.sampled_from([*histories.NODES, "n9"])
LABELS = st.fixed_dictionaries(
    {}, optional={"app": st.sampled_from("ab"), "tier": st.sampled_from(["x", ""]), "gw": st.just("yes")}
)
EXPRESSIONS = st.one_of(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["app", "tier", "team", "gw"]),
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(st.sampled_from("abx"), min_size=1, max_size=2),
        }
    ),
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["app", "tier", "team", "gw"]),
            "operator": st.sampled_from(["Exists", "DoesNotExist"]),
        }
    ),
)
SELECTORS = st.fixed_dictionaries(
    {},
    optional={
        "matchLabels": st.one_of(LABELS, st.just({"io.kubernetes.pod.namespace": "other"})),
        "matchExpressions": st.lists(EXPRESSIONS, max_size=1),
    },
)
OF_NAMESPACE = st.sampled_from(
    [{}, {"matchLabels": {"team": "a"}}, {"matchLabels": {"kubernetes.io/metadata.name": "other"}}]
)


@st.composite
def pods(draw: st.DrawFn) -> facts.Pod:
    number = draw(st.integers(1, 3))
    four, six = f"10.1.0.{number}", f"fd00::{number}"
    ips = draw(st.sampled_from([(), (four,), (four,), (four, six), (six, four)]))
    made = objects.pod(draw(NAMES), draw(NODES), *ips, **draw(LABELS))
    return msgspec.structs.replace(
        made,
        namespace=draw(NAMESPACES),
        uid=draw(st.sampled_from([made.uid, f"{made.uid}-2"])),
        phase=draw(st.sampled_from(["Running", "Running", "Pending", "Succeeded"])),
        host_network=draw(st.sampled_from([False, False, False, True])),
        created=draw(st.sampled_from(["", "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"])),
    )


@st.composite
def policies(draw: st.DrawFn) -> facts.Policy:
    rules = st.fixed_dictionaries(
        {"podSelector": SELECTORS}, optional={"namespaceSelector": OF_NAMESPACE, "nodeSelector": SELECTORS}
    )
    gateway: dict[str, Any] = {"nodeSelector": draw(SELECTORS)}
    gateway |= draw(st.sampled_from([{}, {"interface": "eth0"}, {"egressIP": "192.0.2.2"}]))
    cidrs = st.sampled_from(["0.0.0.0/0", "20.0.0.0/8", "20.1.0.0/16", "::/0", "20.1.2.3/16", "nonsense"])
    made = objects.policy(
        draw(st.sampled_from("xyz")),
        *draw(st.lists(cidrs, max_size=3)),
        created=draw(st.sampled_from(["", "2024-01-01T00:00:00Z"])),
        selectors=draw(st.lists(rules, max_size=2)),
        egressGateways=[gateway, *draw(st.lists(st.just({"nodeSelector": {}}), max_size=1))],
    )
    return msgspec.structs.replace(made, uid=draw(st.sampled_from([made.uid, f"{made.uid}-2"])))


@st.composite
def others(draw: st.DrawFn) -> Any:
    """Namespaces, nodes, networks, service CIDRs."""
    labels = draw(LABELS)
    node = objects.node(draw(NODES), draw(st.sampled_from(["10.0.0.1", "10.0.0.2", ""])), **labels)
    team = draw(st.sampled_from([{}, {"team": "a"}, {"team": "b"}]))
    cidrs = draw(st.sampled_from([(), ("10.96.0.0/12",), ("10.0.0.1/32", "nonsense")]))
    return draw(
        st.one_of(
            st.just(node),
            histories.networks(),
            st.just(facts.Namespace(name=draw(NAMESPACES), labels=team)),
            st.just(facts.ServiceCidr(name="kubernetes", cidrs=cidrs)),
        )
    )


class Engines(stateful.RuleBasedStateMachine):
    """Every step is compared by the twins; every batch is judged by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.checker = safety.Safety()
        self.facts: dict[str, Stored] = {}
        self.reports: dict[str, Stored] = {}
        self.now_s = 0.0
        self._restart()

    @stateful.initialize(
        late=st.integers(0, 3), made=st.lists(pods(), min_size=4, max_size=8), data=st.data()
    )
    def begin(self, late: int, made: list[facts.Pod], data: st.DataObject) -> None:
        """A world in which something is steered; from nothing hypothesis seldom finds one."""
        for each in objects.SYNCED[: 2 if late == 0 else None]:
            self._fold(objects.stored(each))
        for number, name in enumerate(histories.NODES):
            self._fold(objects.stored(objects.node(name, f"10.0.0.{number + 1}", gw="yes")))
            self._fold(objects.stored(objects.network(name, f"192.0.2.{number + 1}/24")))
        for each in (*made, *data.draw(st.lists(policies(), min_size=2, max_size=4))):
            self._fold(objects.stored(each))
        self._step(1.0)

    @stateful.rule(made=st.one_of(pods(), policies(), others(), others()), gone=st.integers(0, 4))
    def change(self, made: Any, gone: int) -> None:
        self._fold(objects.gone(made) if gone == 0 else objects.stored(made))

    @stateful.rule(made=st.one_of(pods(), policies(), others(), others()), gone=st.integers(0, 4))
    def change_and_step(self, made: Any, gone: int) -> None:
        self.change(made, gone)
        self._step(1.0)

    @stateful.rule(answer=st.sampled_from(["all", "late", "all"]))
    def answer(self, answer: str) -> None:
        """All nodes report; what was stored may allow what had to wait."""
        for node in histories.NODES:
            self._report(node, 0 if answer == "all" else 2, "")
        self._step(1.0)

    @stateful.rule(
        what=st.sampled_from(["sync", "sync", "beat", "nonsense", "lose", "read", "restart"]), data=st.data()
    )
    def disturb(self, what: str, data: st.DataObject) -> None:
        match what:
            case "sync":
                synced = facts.Synced(kind=data.draw(st.sampled_from(facts.KINDS)))
                self._fold(data.draw(st.sampled_from([objects.stored, objects.stored, objects.gone]))(synced))
            case "beat":
                node = data.draw(st.sampled_from(histories.NODES))
                self.resolver.fold([Stored(subjects.beat("programmer", node), b"{}", 0)])
            case "nonsense":
                name = data.draw(st.sampled_from("xyz"))
                self._fold(Stored(subjects.fact("policy", name), b'{"v":9}', 0))
            case "lose":
                self.resolver.step(self.now_s)
                self.resolver.replace_plan(self._plan(), self.now_s)
            case "read":
                self._read()
            case "restart":
                self._restart()
        self._step(1.0)

    @stateful.rule(
        node=st.sampled_from(histories.NODES),
        behind=st.sampled_from([0, 0, 1, 3]),
        complains=st.sampled_from(["", "", "x"]),
    )
    def report(self, node: str, behind: int, complains: str) -> None:
        self._report(node, behind, complains)
        self._step(1.0)

    def _report(self, node: str, behind: int, complains: str) -> None:
        message = histories.report(self.checker.rows, node, max(0, self.checker.revision - behind))
        applied = codec.decode(message.subject, message.payload)
        assert isinstance(applied, reports.Applied)
        if complains:
            trouble = reports.Problem(reason="map full", policy=complains)
            applied = msgspec.structs.replace(applied, problems=(trouble,))
        self.reports[message.subject] = Stored(message.subject, codec.encode(applied), 0)
        self.resolver.fold([self.reports[message.subject]])

    @stateful.rule(passes_s=st.sampled_from([1.0, 700.0, 4000.0]))
    def wait(self, passes_s: float) -> None:
        self._step(passes_s)

    def _step(self, passes_s: float) -> None:
        self.now_s += passes_s
        if passes_s > 1.0:
            self.checker._slots.clear()  # an hour may have passed: slots may be used again
        made = self.resolver.step(self.now_s)
        for batch in made.batches:
            self.checker.take(batch)
        for message in made.verdicts:
            self.reports[message.subject] = Stored(message.subject, message.payload, 0)
        self.resolver.stored(made)
        assert self.resolver.live_rows == self.checker.rows

    def _read(self) -> None:
        self.resolver.replace_facts(list(self.facts.values()))
        self.resolver.replace_reports(list(self.reports.values()))

    def _restart(self) -> None:
        self.resolver = engine_twins.Twins(cluster_cidrs=("172.16.0.0/12",))
        self.resolver.epoch = 1
        self._read()
        self.resolver.replace_plan(self._plan(), self.now_s)

    def _fold(self, message: Stored) -> None:
        self.facts[message.subject] = message
        self.resolver.fold([message])

    def _plan(self) -> list[Stored]:
        commits = {subjects.commit(scope): codec.encode(c) for scope, c in self.checker.commits.items()}
        writer = {subjects.WRITER: codec.encode(rows.Writer(epoch=1, revision=self.checker.revision))}
        stored = self.checker.rows | commits | dict.fromkeys(self.checker.freed, b"") | writer
        return [Stored(subject, payload, 0) for subject, payload in stored.items()]


TestEnginesAreEqual = Engines.TestCase
TestEnginesAreEqual.settings = hypothesis.settings(
    max_examples=examples.count(40),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
