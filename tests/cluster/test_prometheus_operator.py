"""What the chart has for the Prometheus operator is what the operator's own CRDs say that it may be."""

import pathlib
from typing import Any

import pytest
import yaml

from ebbgate_lab import apiserver

from .test_chart import named, rendered

CRDS = {
    "PodMonitor": "podmonitors",
    "ServiceMonitor": "servicemonitors",
    "PrometheusRule": "prometheusrules",
}
GROUP = "monitoring.coreos.com/v1"


@pytest.fixture(scope="module")
def operated(api: apiserver.ApiServer) -> apiserver.ApiServer:
    for name in CRDS.values():
        path: pathlib.Path = apiserver.kept(f"{name}.yaml")
        api.apply(yaml.safe_load(path.read_text()))
    for kind in CRDS:
        api.until_served(GROUP, kind)
    return api


def objects() -> dict[str, dict[str, Any]]:
    """A PodMonitor or a ServiceMonitor: both at once are refused."""
    wishes = {kind: f"{kind[0].lower()}{kind[1:]}" for kind in CRDS}
    return {
        kind: named(rendered(monitoring={wish: {"enabled": True}}), kind, "ebbgate")
        for kind, wish in wishes.items()
    }


def strictly(api: apiserver.ApiServer, manifest: dict[str, Any]) -> tuple[int, str]:
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ebbgate"}})
    path = f"{apiserver.collection(GROUP, manifest['kind'], 'ebbgate')}?fieldValidation=Strict&dryRun=All"
    status, answer = api.client.request("POST", path, manifest)
    return status, str(answer)


@pytest.mark.parametrize("kind", CRDS)
def test_the_operator_s_crd_takes_it(operated: apiserver.ApiServer, kind: str) -> None:
    status, answer = strictly(operated, objects()[kind])
    assert status == 201, answer


@pytest.mark.parametrize(
    ("kind", "name"),
    [("PodMonitor", "podMetricsEndpoints"), ("ServiceMonitor", "endpoints"), ("PrometheusRule", "groups")],
)
def test_and_would_refuse_another(operated: apiserver.ApiServer, kind: str, name: str) -> None:
    manifest = objects()[kind]
    manifest["spec"][name.rstrip("s")] = manifest["spec"].pop(name)
    status, answer = strictly(operated, manifest)
    assert status >= 400
    assert name.rstrip("s") in answer
