"""What an operator may want otherwise of the pods that the chart makes, as Helm renders it: where they run,
as whom, how they log and trace, what is beside them.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from .test_chart import ON, Manifest, named, rendered, run

SERVICES = ("watcher", "resolver", "usher", "programmer")
TRACED = ("watcher", "resolver", "programmer")
KINDS = {"programmer": "DaemonSet", "nats": "StatefulSet"}


def workload(found: list[Manifest], name: str) -> Manifest:
    return named(found, KINDS.get(name, "Deployment"), f"ebbgate-{name}")


def pod(found: list[Manifest], name: str) -> Manifest:
    spec: Manifest = workload(found, name)["spec"]["template"]["spec"]
    return spec


def environment(found: list[Manifest], name: str) -> dict[str, Any]:
    (container,) = pod(found, name)["containers"]
    names = [each["name"] for each in container["env"]]
    assert len(names) == len(set(names))
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def pods(found: list[Manifest]) -> Iterator[Manifest]:
    """Of all workloads and jobs but the programmer's."""
    for each in found:
        spec = each.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec and each["kind"] != "DaemonSet":
            yield spec["template"]["spec"]


@pytest.mark.parametrize("name", SERVICES)
def test_logs_are_as_they_are_wanted(name: str) -> None:
    told = environment(rendered(logging={"format": "text", "level": "warning"}), name)
    assert (told["EBBGATE_LOG_FORMAT"], told["EBBGATE_LOG_LEVEL"]) == ("text", "warning")


@pytest.mark.parametrize("ratio", [0.01, "0.01"], ids=["in a file", "by --set"])
def test_spans_go_where_they_are_wanted(ratio: float | str) -> None:
    wish = {"endpoint": "http://collector:4318", "ratio": ratio, "headersSecret": "who"}
    found = rendered(tracing=wish)
    for name in TRACED:
        told = environment(found, name)
        assert {key: value for key, value in told.items() if key.startswith("OTEL_")} == {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.01",
            "OTEL_EXPORTER_OTLP_HEADERS": {"secretKeyRef": {"name": "who", "key": "headers"}},
        }


@pytest.mark.parametrize("ratio", ["0", "0.0", "1", "1.0", ".5", "0.25", "1e-3", "2.5E-07"])
def test_a_part_of_all_traces_may_be_written_as_any_number(ratio: str) -> None:
    """By --set, with which Helm takes all but whole numbers for strings, and in a file."""
    endpoint = {"endpoint": "http://collector:4318"}
    by_set = rendered("--set", f"tracing.ratio={ratio}", tracing=endpoint)
    in_a_file = rendered(tracing=endpoint | {"ratio": float(ratio)})
    for found in (by_set, in_a_file):
        assert float(environment(found, "watcher")["OTEL_TRACES_SAMPLER_ARG"]) == float(ratio)


@pytest.mark.parametrize("ratio", ["1.1", "2", "-0.1", "1e3", "half", ""])
def test_what_is_no_part_is_refused(ratio: str) -> None:
    done = run("--set", f"tracing.ratio={ratio}")
    assert done.returncode
    assert "at '/tracing/ratio'" in done.stderr


def test_without_an_endpoint_nothing_is_said_of_tracing() -> None:
    found = rendered()
    assert not [key for name in TRACED for key in environment(found, name) if key.startswith("OTEL_")]


@pytest.mark.parametrize("name", SERVICES)
def test_what_one_has_beside_is_there(name: str) -> None:
    volume = {"name": "receiver", "secret": {"secretName": "receiver"}}
    mount = {"name": "receiver", "mountPath": "/etc/receiver", "readOnly": True}
    variable = {"name": "OTEL_EXPORTER_OTLP_CERTIFICATE", "value": "/etc/receiver/ca.crt"}
    wish = {"extraVolumes": [volume], "extraVolumeMounts": [mount], "extraEnv": [variable]}
    found = pod(rendered(**{name: wish}), name)
    assert volume in found["volumes"]
    (container,) = found["containers"]
    assert mount in container["volumeMounts"]
    assert variable in container["env"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_one_says_oneself_is_said_once(name: str) -> None:
    """A list with a name twice would stop an upgrade half way."""
    wish = {"tracing": {"endpoint": "http://collector:4318", "headersSecret": "who"}}
    own = environment(rendered(**wish), name)
    mine = {each: "mine" for each in own}
    extra = [{"name": each, "value": value} for each, value in mine.items()]
    assert environment(rendered(**wish, **{name: {"extraEnv": extra}}), name) == mine
    one = rendered(**wish, **{name: {"extraEnv": extra[-1:]}})
    assert environment(one, name) == own | {extra[-1]["name"]: "mine"}


@pytest.mark.parametrize("name", ["watcher", "resolver", "usher", "nats"])
def test_pods_are_spread_as_they_are_wanted(name: str) -> None:
    own = workload(rendered(), name)["spec"]["selector"]
    usual = pod(rendered(), name)["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in usual] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    assert [each["labelSelector"] for each in usual] == [own, own]
    mine = {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    other = mine | {"maxSkew": 3, "labelSelector": {"matchLabels": {"a": "b"}}}
    second = {"maxSkew": 1, "topologyKey": "room", "whenUnsatisfiable": "ScheduleAnyway"}
    wished = pod(rendered(**{name: {"topologySpreadConstraints": [other, mine, second]}}), name)
    assert wished["topologySpreadConstraints"] == [
        other,
        mine | {"labelSelector": own},
        second | {"labelSelector": own},
    ]
    none = pod(rendered(**{name: {"topologySpreadConstraints": []}}), name)
    assert "topologySpreadConstraints" not in none


def test_who_runs_them_may_be_the_cluster_s_choice_and_nothing_else_of_the_standard() -> None:
    nobody = {"runAsUser": None, "runAsGroup": None, "fsGroup": None}
    fixed = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert [each["securityContext"] for each in pods(rendered(podSecurityContext=nobody))] == [fixed] * 7
    of_chart = fixed | {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 7}
    assert [each["securityContext"] for each in pods(rendered(podSecurityContext={"fsGroup": 7}))] == [
        of_chart
    ] * 7


def test_drains_take_as_many_as_one_wants_but_never_a_majority_of_the_bus() -> None:
    found = rendered(podDisruptionBudgets={"maxUnavailable": "50%"}, nats={"replicas": 3})
    budgets = {
        each["metadata"]["name"]: each["spec"]["maxUnavailable"]
        for each in found
        if each["kind"] == "PodDisruptionBudget"
    }
    assert budgets == {
        "ebbgate-nats": 1,
        **{f"ebbgate-{name}": "50%" for name in ("watcher", "resolver", "usher")},
    }
    none = rendered(podDisruptionBudgets={"enabled": False})
    assert not [each for each in none if each["kind"] == "PodDisruptionBudget"]


def test_old_revisions_are_kept_as_many_as_one_wants() -> None:
    found = rendered(revisionHistoryLimit=3)
    workloads = [each for each in found if each["kind"] in ("Deployment", "DaemonSet", "StatefulSet")]
    assert [each["spec"]["revisionHistoryLimit"] for each in workloads] == [3] * 6


def test_services_for_metrics_choose_the_pods_that_have_some() -> None:
    found = rendered(monitoring={"serviceMonitor": ON})
    chosen = named(found, "ServiceMonitor", "ebbgate")["spec"]["selector"]
    (one_of,) = chosen["matchExpressions"]
    services = [
        each
        for each in found
        if each["kind"] == "Service"
        and each["metadata"]["labels"]["app.kubernetes.io/component"] in one_of["values"]
        and chosen["matchLabels"].items() <= each["metadata"]["labels"].items()
    ]
    assert {each["metadata"]["name"] for each in services} == {f"ebbgate-{name}-metrics" for name in SERVICES}
    for service in services:
        name = service["metadata"]["labels"]["app.kubernetes.io/component"]
        (port,) = service["spec"]["ports"]
        labels = workload(found, name)["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
        assert port["targetPort"] in [each["name"] for each in pod(found, name)["containers"][0]["ports"]]


def test_the_job_of_credentials_is_labelled_as_one_wants() -> None:
    found = rendered(credentials={"podLabels": {"a": "b"}, "podAnnotations": {"c": "d"}})
    job = named(found, "CronJob", "ebbgate-credentials")["spec"]["jobTemplate"]["spec"]["template"][
        "metadata"
    ]
    assert (job["labels"]["a"], job["annotations"]) == ("b", {"c": "d"})
