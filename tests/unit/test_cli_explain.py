"""`ebbgate explain` on manifests: the verdict first, then reasons; names that are wrong get a hint."""

import json
import pathlib

import pytest
import yaml
from typer.testing import CliRunner, Result

from ebbgate_cli import __main__ as cli
from ebbgate_cli import explanations
from ebbgate_resolver.core.people import explanation

STORY = pathlib.Path(__file__).parents[1] / "stories" / "seed-egress-sample.yaml"


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    steps = yaml.safe_load(STORY.read_text())["steps"]
    for i, step in enumerate(steps[:2]):
        (tmp_path / f"{i}.yaml").write_text(yaml.safe_dump_all(step["apply"]))
    return tmp_path


def _explain(folder: pathlib.Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["explain", *arguments, "--from", str(folder)])


def test_the_verdict_comes_first_and_reasons_follow_as_a_tree(folder: pathlib.Path) -> None:
    result = _explain(folder, "default/mediabot", "198.51.100.7")
    assert result.exit_code == 0
    first, *rest = result.stdout.splitlines()
    assert first.startswith(
        "default/mediabot (10.244.1.10, on node1) → 198.51.100.7: STEERED, it leaves by node2"
    )
    assert first.endswith("as 10.168.60.100")
    assert rest[:3] == [
        "  policy egress-sample: decides",
        "    the pod is chosen by selectors[0]",
        "    it steers 0.0.0.0/0",
    ]


def test_a_pod_can_be_named_by_its_address_and_json_has_all_fields(folder: pathlib.Path) -> None:
    result = _explain(folder, "10.244.1.10", "198.51.100.7", "-o", "json")
    told = json.loads(result.stdout)
    assert (told["outcome"], told["egress_ip"], told["gateway"]) == ("steered", "10.168.60.100", "node2")
    assert told["policies"][0]["result"] == "decides"
    assert _explain(folder, "mediabot", "198.51.100.7").stdout.startswith("default/mediabot ")


def test_why_not_tells_of_one_policy(folder: pathlib.Path) -> None:
    result = _explain(folder, "default/mediabot", "198.51.100.7", "--why-not", "egress-sample")
    assert result.stdout.splitlines()[0] == "policy egress-sample: decides"
    result = _explain(folder, "default/mediabot", "1.1.1.1", "--why-not", "egress-sample", "-o", "json")
    assert json.loads(result.stdout)["policy"] == "egress-sample"
    result = _explain(folder, "default/mediabot", "198.51.100.7", "--why-not", "egress-sampel")
    assert result.exit_code == 1
    assert "no policy egress-sampel is known; did you mean egress-sample?" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["default/mediabott", "1.1.1.1"],
            1,
            "no pod default/mediabott is known; did you mean default/mediabot?",
        ),
        (["kube-system/mediabot", "1.1.1.1"], 1, "did you mean default/mediabot?"),
        (["quite/other", "1.1.1.1"], 1, "no pod quite/other is known\n"),
        (["default/mediabot", "example.org"], 2, "'example.org' is not an IP address"),
        (["10.244.1.10", "2600::1"], 2, "are not of the same IP family"),
    ],
)
def test_what_cannot_be_answered_is_said(
    folder: pathlib.Path, arguments: list[str], code: int, said: str
) -> None:
    result = _explain(folder, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr


def test_policies_without_a_say_are_named_while_they_are_few_and_counted_else() -> None:
    def text(count: int) -> str:
        answers = [
            explanation.Answer(
                f"p{i}", explanation.Result.NOT_CHOSEN if i else explanation.Result.NOT_COVERED
            )
            for i in range(count)
        ]
        return explanations.text(
            explanation.Explanation(
                outcome=explanation.Outcome.NOT_MATCHED,
                reason="no policy",
                pod="a/b",
                destination="1.1.1.1",
                policies=(*answers, explanation.Answer("bad", explanation.Result.REJECTED)),
            )
        )

    assert "policy p4: doesn't choose the pod" in text(5)
    assert "    5 don't choose the pod, 1 cover other destinations (--why-not NAME tells why)" in text(6)
    assert "policy bad: rejected" in text(6)
