"""`ebbgate plan` shows rows as Cilium's users know them, and names what it couldn't use."""

import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from ebbgate_cli import __main__ as cli

STORY = pathlib.Path(__file__).parents[1] / "stories" / "seed-egress-sample.yaml"


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """The seed scenario as manifests: one file each in a form that is common."""
    steps = yaml.safe_load(STORY.read_text())["steps"]
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "all.yaml").write_text(yaml.safe_dump_all(steps[0]["apply"]))
    pods = {"apiVersion": "v1", "kind": "List", "items": steps[1]["apply"]}
    (tmp_path / "pods.json").write_text(json.dumps(pods))
    (tmp_path / "notes.txt").write_text("not a manifest")
    (tmp_path / ".hidden.yaml").write_text("a: [")
    return tmp_path


def _plan(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, ["plan", *map(str, arguments)])


def _policy(folder: pathlib.Path) -> dict[str, Any]:
    documents = yaml.safe_load_all((folder / "nodes" / "all.yaml").read_text())
    (policy,) = [each for each in documents if each["kind"] == "CiliumEgressGatewayPolicy"]
    found: dict[str, Any] = policy
    return found


def test_the_table_is_the_gateways_view(folder: pathlib.Path) -> None:
    result = _plan(folder)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "Source IP     Destination CIDR   Egress IP       Gateway IP",
        "10.244.1.10   0.0.0.0/0          10.168.60.100   10.168.60.12",
    ]


@pytest.mark.parametrize("arguments", [["-"], ["-f", "-"], ["-", "--filename", "-"]])
def test_manifests_come_by_a_pipe_too(folder: pathlib.Path, arguments: list[str]) -> None:
    whole = [*yaml.safe_load_all((folder / "nodes" / "all.yaml").read_text()), _pods(folder)]
    told = CliRunner().invoke(cli.app, ["plan", *arguments], input=yaml.safe_dump_all(whole))
    assert (told.exit_code, told.stderr, told.stdout) == (0, "", _plan(folder).stdout)
    told = CliRunner().invoke(cli.app, ["plan", *arguments], input="a: [")
    assert (told.exit_code, "standard input: can't be read" in told.stderr) == (1, True)


def test_what_is_piped_stands_beside_files(folder: pathlib.Path) -> None:
    arguments = ["plan", "-f", "-", "-f", str(folder / "nodes")]
    told = CliRunner().invoke(cli.app, arguments, input=json.dumps(_pods(folder)))
    assert told.stdout == _plan(folder).stdout
    assert _plan().exit_code == 2


def test_an_empty_pipe_is_no_success(folder: pathlib.Path) -> None:
    """What is left of `kustomize build broken | ebbgate …`, where the shell has no pipefail."""
    for command in (["plan", "-"], ["simulate", "--from", str(folder), "--filename", "-", "--exit-code"]):
        for nothing in ("", "\n# only a comment\n---\n"):
            told = CliRunner().invoke(cli.app, command, input=nothing)
            assert told.exit_code == 1, told.output
            assert "standard input: no object is in it; did what writes it fail?" in told.stderr


def test_a_pipe_that_has_a_name_is_read_and_a_closed_input_is_an_empty_one(folder: pathlib.Path) -> None:
    for given, said in (("/dev/stdin", "can't be read"), ("-", "no object is in it")):
        closed = "<&-" if given == "-" else "<<< 'a: ['"
        typed = f"{sys.executable} -m ebbgate_cli plan -f {given} {closed}"
        done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def _pods(folder: pathlib.Path) -> Any:
    return json.loads((folder / "pods.json").read_text())


def test_a_node_sees_only_its_own_egress_ips_also_as_json(folder: pathlib.Path) -> None:
    result = _plan(folder, "--node", "node1", "-o", "json")
    assert json.loads(result.stdout) == [
        {
            "SourceIP": "10.244.1.10",
            "DestCIDR": "0.0.0.0/0",
            "EgressIP": "0.0.0.0",
            "GatewayIP": "10.168.60.12",
        }
    ]


def test_special_gateways_are_words(folder: pathlib.Path) -> None:
    policy = _policy(folder)
    policy["metadata"]["name"] = "other"
    policy["spec"] |= {"destinationCIDRs": ["1.0.0.0/8"], "excludedCIDRs": ["1.1.0.0/16"]}
    policy["spec"]["egressGateway"]["nodeSelector"] = {"matchLabels": {"no": "such"}}
    (folder / "other.yaml").write_text(yaml.safe_dump(policy))
    rows = [line.split("   ") for line in _plan(folder).stdout.splitlines()]
    assert [row[-1].strip() for row in rows if row[1].strip().startswith("1.")] == [
        "Not Found",
        "Excluded CIDR",
    ]


def test_what_cannot_be_used_is_named_and_the_rest_is_planned(folder: pathlib.Path) -> None:
    policy = _policy(folder)
    (folder / "again.yaml").write_text(yaml.safe_dump(policy))
    policy["metadata"]["name"] = "bad"
    policy["spec"]["destinationCIDRs"] = ["1.1.1.1"]
    (folder / "bad.yaml").write_text(yaml.safe_dump(policy))
    (folder / "odd.yaml").write_text("kind: Moon\nmetadata: {name: x}\n---\na: [")
    (folder / "what.yaml").write_text("kind: Moon\nmetadata: {name: x}\n---\n1")
    result = _plan(folder)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    said = result.stderr.replace(f"{folder}/", "")
    assert "bad.yaml: policy bad: spec.destinationCIDRs[0]: '1.1.1.1' is not a CIDR" in said
    assert "odd.yaml: can't be read: " in said
    assert "what.yaml: Moon x: not a kind that is watched" in said
    assert "what.yaml: " in said
    assert "not a Kubernetes object" in said
    assert "nodes/all.yaml: policy egress-sample: is in again.yaml already" in said


def test_what_is_ignored_is_said_and_an_unknown_node_is_an_error(folder: pathlib.Path) -> None:
    metadata = {"name": "host", "labels": {"org": "empire", "class": "mediabot"}}
    pod = {"kind": "Pod", "metadata": metadata, "spec": {"nodeName": "node1", "hostNetwork": True}}
    (folder / "host.yaml").write_text(yaml.safe_dump(pod))
    result = _plan(folder)
    assert result.exit_code == 0
    assert "pod.ignored: pod default/host, reason it is on the host's network" in result.stderr
    result = _plan(folder, "--node", "moon")
    assert result.exit_code == 1
    assert "--node moon: no manifest has this node; there are: node1, node2" in result.stderr


def test_no_rows_are_said_on_standard_error(tmp_path: pathlib.Path) -> None:
    result = _plan(tmp_path)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No entries found.\n")
    assert _plan(tmp_path, "-o", "json").stdout == "[]\n"


def test_one_file_is_a_plan_too(folder: pathlib.Path) -> None:
    assert _plan(folder / "pods.json").stderr == "No entries found.\n"


def test_a_directory_that_is_not_there_is_an_error_of_usage() -> None:
    result = _plan("/no/such/directory")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_help_teaches_with_an_example() -> None:
    for command in ("plan", "test"):
        assert f"Example: `ebbgate {command} " in CliRunner().invoke(cli.app, [command, "--help"]).stdout
    assert _plan().exit_code == 2
