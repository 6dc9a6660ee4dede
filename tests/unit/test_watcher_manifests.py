"""A directory of manifests: reading files, broken ones, duplicates, and what is only being written."""

import pytest

from ebbgate_bus.contracts import facts
from ebbgate_watcher import settings
from ebbgate_watcher.core import inputs, manifests, objects

NONE = manifests.File()
NODE = b"apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n"


def troubles(said: list[inputs.Input]) -> dict[str, str]:
    return {each.origin: each.reason for each in said if isinstance(each, inputs.Broken)}


def found(said: list[inputs.Input], kind: str) -> list[objects.Observed | objects.Unusable]:
    (listed,) = [each for each in said if isinstance(each, inputs.Listed) and each.kind == kind]
    return list(listed.objects)


def listing(files: dict[str, bytes], *, node_networks: bool = False) -> list[inputs.Input]:
    parsed = {name: manifests.parse(content, NONE) for name, content in files.items()}
    return manifests.list_all(parsed, manifests.kinds(node_networks=node_networks), 5)


def test_documents_and_lists_are_opened() -> None:
    text = b"---\n" + NODE + b"---\n---\nkind: List\nitems:\n- kind: Namespace\n  metadata: {name: a}\n"
    assert [each.kind for each in manifests.parse(text, NONE).objects] == ["node", "namespace"]
    assert manifests.parse(b'{"kind": "Node", "metadata": {"name": "j"}}', NONE).objects
    assert manifests.parse(b"", NONE) == NONE
    assert manifests.parse(b"kind: List\n", NONE) == NONE


def test_dates_are_texts_as_in_kubernetes() -> None:
    text = (
        b"kind: CiliumEgressGatewayPolicy\nmetadata: {name: p, creationTimestamp: 2024-05-01T10:00:00Z}\n"
        b"spec: {note: 2024-05-01}\n"
    )
    (seen,) = manifests.parse(text, NONE).objects
    assert isinstance(seen, objects.Observed)
    assert isinstance(seen.fact, facts.Policy)
    assert seen.fact.created == "2024-05-01T10:00:00Z"
    assert bytes(seen.fact.spec) == b'{"note":"2024-05-01"}'


@pytest.mark.parametrize("content", [b"kind: [", b"\xff\xfe\xfa", b"a: b: c", b"x: !!python/object:os.x {}"])
def test_a_file_that_does_not_parse_keeps_its_last_good_objects(content: bytes) -> None:
    good = manifests.parse(NODE, NONE)
    broken = manifests.parse(content, good)
    assert broken.objects == good.objects
    assert broken.broken
    assert "\n" not in broken.broken
    assert not manifests.lost(broken, good)
    said = manifests.list_all({"a.yaml": broken}, facts.KINDS, 5)
    assert "a.yaml" in troubles(said)
    assert len(found(said, "node")) == 1


def test_a_file_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MAX_FILE", 10)
    assert "larger" in manifests.parse(NODE, NONE).broken


def test_every_kind_is_listed_even_when_there_is_none() -> None:
    said = listing({})
    assert {each.kind for each in said if isinstance(each, inputs.Listed)} == set(facts.KINDS)


def test_the_first_file_by_name_wins_and_the_other_is_named() -> None:
    other = NODE.replace(b"}", b", labels: {from: b}}")
    said = listing({"b.yaml": other, "a.yaml": NODE})
    assert troubles(said) == {"b.yaml": "node node.n1 is in a.yaml already"}
    (seen,) = found(said, "node")
    assert isinstance(seen, objects.Observed)
    assert seen.fact == facts.Node(name="n1")


def test_twice_in_one_file_is_a_trouble_too() -> None:
    assert "already" in troubles(listing({"a.yaml": NODE + b"---\n" + NODE}))["a.yaml"]


def test_what_is_not_watched_is_named_and_node_networks_only_wait() -> None:
    network = b"apiVersion: ebbgate.io/v1alpha1\nkind: NodeNetwork\nmetadata: {name: n1}\n"
    deployment = b"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n"
    said = listing({"d.yaml": deployment, "n.yaml": network})
    assert list(troubles(said)) == ["d.yaml"]
    assert "apps/v1 Deployment" in troubles(said)["d.yaml"]
    assert len(found(listing({"n.yaml": network}, node_networks=True), "nodenetwork")) == 1


def test_an_object_without_name_is_passed_on_to_be_named() -> None:
    (seen,) = found(listing({"a.yaml": b"kind: Pod\nmetadata: {labels: {a: b}}\n"}), "pod")
    assert isinstance(seen, objects.Unusable)


def test_a_file_with_fewer_objects_may_be_unfinished() -> None:
    whole = manifests.parse(NODE, NONE)
    assert manifests.lost(NONE, whole)
    assert not manifests.lost(whole, whole)
    assert not manifests.lost(whole, NONE)


def test_options_come_before_the_environment() -> None:
    env = {"EBBGATE_NATS_URL": "nats://bus:4222", "EBBGATE_SOURCE": "directory", "EBBGATE_PATH": "m"}
    told = settings.parse_settings(["--path", "other", "--name", "w"], env)
    assert (told.reach.url, told.source, str(told.path), told.name) == (
        "nats://bus:4222",
        "directory",
        "other",
        "w",
    )
    assert settings.parse_settings([], {"KUBECONFIG": "k"}).kubeconfig == "k"
    assert settings.parse_settings([], {}).kubeconfig is None


def test_a_directory_source_without_directory_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        settings.parse_settings(["--source", "directory"], {})
    assert "--path DIR" in capsys.readouterr().err
