"""`ebbgate simulate` says what manifests would change, on top of others, and changes nothing itself."""

import json
import pathlib
from typing import Any

import msgspec
import pytest
import yaml
from typer.testing import CliRunner, Result

from ebbgate_bus.contracts import codec, facts, rows, subjects
from ebbgate_cli import __main__ as cli
from ebbgate_cli import amending, simulations
from ebbgate_resolver.core import simulation
from ebbgate_resolver.core.people import explanation, ways
from ebbgate_resolver.core.plan import held
from ebbgate_watcher.core import objects as watched
from tests.unit import resolver_objects as objects

STORY = pathlib.Path(__file__).parents[1] / "stories" / "seed-egress-sample.yaml"


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    steps = yaml.safe_load(STORY.read_text())["steps"]
    (tmp_path / "now").mkdir()
    for i, step in enumerate(steps[:2]):
        (tmp_path / "now" / f"{i}.yaml").write_text(yaml.safe_dump_all(step["apply"]))
    return tmp_path


def _policy(folder: pathlib.Path, **spec: Any) -> dict[str, Any]:
    documents = yaml.safe_load_all((folder / "now" / "0.yaml").read_text())
    (policy,) = [each for each in documents if each["kind"] == "CiliumEgressGatewayPolicy"]
    found: dict[str, Any] = policy
    found["spec"] |= spec
    return found


def _simulate(folder: pathlib.Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["simulate", "--from", str(folder / "now"), *arguments])


def _write(folder: pathlib.Path, *documents: object) -> str:
    path = folder / "change.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return str(path)


def test_what_is_there_already_changes_nothing(folder: pathlib.Path) -> None:
    result = _simulate(folder, str(folder / "now"), "--exit-code")
    assert (result.exit_code, result.stdout) == (0, "nothing changes\n")


def test_a_changed_policy_shows_each_pod_before_and_after(folder: pathlib.Path) -> None:
    change = _write(folder, _policy(folder, excludedCIDRs=["10.0.0.0/8"]))
    result = _simulate(folder, "--apply", change, "--exit-code")
    assert result.exit_code == 3
    header, line, count = result.stdout.splitlines()
    assert header.split() == ["POD", "SOURCE", "DESTINATION", "BEFORE", "AFTER"]
    assert "10.0.0.0/8" in line
    assert line.index("10.168.60.100 by node2 (policy egress-sample)") < line.index("excluded (policy")
    assert count == "Pods whose egress changes: 1."


def test_manifests_come_by_a_pipe_too(folder: pathlib.Path) -> None:
    policy = _policy(folder, excludedCIDRs=["20.0.0.0/8"])
    now = pathlib.Path(folder / "now")
    expected = _simulate(folder, _write(folder, policy)).stdout
    for arguments in (["-"], ["-f", "-"], ["--apply", "-"]):
        command = ["simulate", "--from", str(now), *arguments]
        assert CliRunner().invoke(cli.app, command, input=yaml.safe_dump(policy)).stdout == expected
    twice = CliRunner().invoke(cli.app, ["simulate", "--from", "-", "-f", "-"], input="")
    assert (twice.exit_code, "can't be both" in twice.stderr) == (2, True)


def test_a_deleted_policy_leaves_its_pods_alone(folder: pathlib.Path) -> None:
    told = json.loads(_simulate(folder, "--delete", "policy/egress-sample", "-o", "json").stdout)
    (change,) = told["changes"]
    assert (change["pod"], change["before"]["egress_ip"]) == ("default/mediabot", "10.168.60.100")
    assert change["after"] == {"outcome": "not matched"}
    assert told["policies"] == [{"policy": "egress-sample", "before": "ready", "after": "absent"}]


def test_an_update_that_would_be_rejected_says_what_stays_in_force(folder: pathlib.Path) -> None:
    change = _write(folder, _policy(folder, destinationCIDRs=["nonsense"]))
    result = _simulate(folder, change)
    assert result.exit_code == 0
    assert "No pod changes its egress." in result.stdout
    assert "policy egress-sample: ready → Rejected: spec.destinationCIDRs[0]: 'nonsense'" in result.stdout
    assert "stays in force" in result.stdout


def test_a_lost_gateway_and_a_node_that_goes(folder: pathlib.Path) -> None:
    result = _simulate(folder, "--delete", "node/node2")
    assert "dropped (policy egress-sample)" in result.stdout
    assert "ready → NoMatchingNode" in result.stdout
    assert "10.168.60.12/32 (address of node2) is cluster-internal no longer" in result.stdout
    service = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "k"},
        "spec": {"cidrs": ["10.96.0.0/12"]},
    }
    result = _simulate(folder, _write(folder, service))
    assert "10.96.0.0/12 (ServiceCIDR k) becomes cluster-internal: never steered" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to simulate"),
        (["--delete", "policy/moon"], "policy/moon does not exist"),
        (["--delete", "Moon/x"], "'Moon/x' is not KIND/NAME; kinds are"),
        (["--delete", "policy"], "is not KIND/NAME"),
        (["--delete", "policy/a/b"], "pods are named pod/NAMESPACE/NAME"),
        (["--delete", "policy/a_b"], "not a name"),
    ],
)
def test_what_cannot_be_simulated_is_an_error_of_usage(
    folder: pathlib.Path, arguments: list[str], said: str
) -> None:
    result = _simulate(folder, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_other_kinds_are_passed_by_and_broken_manifests_are_errors(folder: pathlib.Path) -> None:
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}
    odd = _policy(folder) | {"metadata": {"name": "odd", "uid": "a b"}}
    result = _simulate(folder, _write(folder, deployment, odd))
    assert result.exit_code == 0
    assert "Deployment d: not a kind that is watched" in result.stderr
    assert "metadata.uid" in result.stderr
    broken = _policy(folder) | {"metadata": {"name": ""}}
    assert _simulate(folder, _write(folder, broken)).exit_code == 1


def test_what_the_cluster_adds_to_objects_stays() -> None:
    old = [
        facts.Pod(
            namespace="d", name="p", uid="u", node="n", ips=("10.0.0.1",), phase="Running", created="2"
        ),
        facts.Node(
            name="n", labels={"a": "1", "h": "n"}, internal_ips=("10.0.0.9",), pod_cidrs=("10.9.0.0/16",)
        ),
        facts.Namespace(name="d", labels={"kubelet": "1"}),
        msgspec.structs.replace(objects.policy("p", "1.0.0.0/8", created="2024"), uid="real", generation=3),
    ]
    new = [
        facts.Pod(namespace="d", name="p", uid="d/p", labels={"x": "y"}),
        facts.Node(name="n", labels={"a": "2"}),
        facts.Namespace(name="d", labels={"team": "x"}),
        objects.policy("p", "2.0.0.0/8"),
        facts.ServiceCidr(name="s"),
    ]
    known = {objects.subject_of(each): each for each in old}
    seen = [watched.Observed(objects.subject_of(each), codec.encode(each), "", "") for each in new]
    after = amending.applied(known, seen)
    assert after[subjects.fact("pod", "d", "p")] == msgspec.structs.replace(old[0], labels={"x": "y"})
    assert after[subjects.fact("node", "n")] == msgspec.structs.replace(old[1], labels={"a": "2", "h": "n"})
    assert after[subjects.fact("namespace", "d")].labels == {"kubelet": "1", "team": "x"}  # type: ignore[union-attr]
    policy = after[subjects.fact("policy", "p")]
    assert isinstance(policy, facts.Policy)
    assert (policy.uid, policy.generation, policy.created) == ("real", 4, "2024")
    assert amending.deleted(known, ["pod/d/p", "no/n", "Namespace/d", "cegp/p"]) == {}
    assert amending.subject_of("pod/p") == subjects.fact("pod", "default", "p")


def test_a_narrower_destination_is_compared_with_what_covered_it() -> None:
    gateway, network = (
        objects.node("gw", "10.0.0.1", gw="yes"),
        objects.network("gw", "10.0.0.1/24", "10.0.0.2/24"),
    )
    pod, wide = objects.pod("a", "gw", "10.1.0.1", "fd00::1"), objects.policy("p", "0.0.0.0/0")
    other = {"nodeSelector": {}, "egressIP": "10.0.0.2"}
    narrow = objects.policy("q", "20.0.0.0/8", egressGateway=other)
    before = {objects.subject_of(each): each for each in (gateway, network, pod, wide)}
    told = simulation.simulate(before, before | {objects.subject_of(narrow): narrow}, held.Held())
    (change,) = told.changes
    assert (change.destination, change.before.egress_ip, change.after.egress_ip) == (
        "20.0.0.0/8",
        "10.0.0.1",
        "10.0.0.2",
    )
    back = simulation.simulate(before | {objects.subject_of(narrow): narrow}, before, held.Held())
    assert [(each.before, each.after) for each in back.changes] == [(change.after, change.before)]


def test_a_way_is_a_few_words() -> None:
    assert simulations.way_text(ways.Way(explanation.Outcome.NOT_MATCHED)) == "not steered"


def test_pods_of_one_set_share_their_answer_and_gateways_that_are_lost_show_in_their_buckets() -> None:
    gateways = [objects.node(f"g{i}", f"10.0.0.{i}", gw="yes", **{f"g{i}": "yes"}) for i in (1, 2)]
    networks = [objects.network(f"g{i}", f"10.0.0.{i}/24") for i in (1, 2)]
    several = [{"nodeSelector": {"matchLabels": {f"g{i}": "yes"}}} for i in (1, 2)]
    pods = [objects.pod(f"p{i}", "g1", f"10.1.0.{i}") for i in range(200)]
    policy = objects.policy("p", "20.0.0.0/8", egressGateways=several)
    before = {objects.subject_of(each): each for each in (*gateways, *networks, *pods, policy)}
    after = {key: fact for key, fact in before.items() if fact is not gateways[1]}
    told = simulation.simulate(before, after, held.Held())
    assert 50 < len(told.changes) < 150
    assert {(each.before.gateway, each.after.gateway) for each in told.changes} == {("g2", "g1")}


def test_a_route_whose_group_is_missing_drops() -> None:
    route = rows.Route("20.0.0.0/8", rows.Action.STEER, "u", "p")
    endpoint = rows.Endpoint(ip="10.1.0.1", set="s", bucket=0, pod="d/a")
    table = ways.Table(routes={"s": {"20.0.0.0/8": route}})
    assert table.way(endpoint, "20.0.0.0/16") == ways.Way(explanation.Outcome.DROPPED, policy="p")
    closed = rows.Paths(paths=(rows.Path("gw", "10.0.0.1", rows.NO_SLOT),), buckets=(0,) * rows.BUCKETS)
    table.groups["u"] = rows.Group(policy="p", ipv4=closed)
    assert table.way(endpoint, "20.0.0.0/16") == ways.Way(
        explanation.Outcome.DROPPED, gateway="gw", policy="p"
    )
    assert table.way(endpoint, "30.0.0.0/8") == ways.Way(explanation.Outcome.NOT_MATCHED)
