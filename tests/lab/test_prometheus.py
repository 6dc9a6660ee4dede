"""A real Prometheus on the running lab: every panel has an answer, and where all is well no alert fires."""

import asyncio
import json
import pathlib
import re
import urllib.parse

import pytest
import yaml

from ebbgate_bus.contracts import reports, subjects
from ebbgate_lab import lab, namespaces, observer, processes, sample, sources
from ebbgate_lab.monitoring import dashboards

PORT = 9090
ALERTS = pathlib.Path(__file__).parents[2] / "deploy/monitoring/alerts.yaml"
NODES = {"node1": "10.168.60.11", "node2": "10.168.60.12"}
UNEVENTFUL = re.compile(r"drops_total")
"""Where all is well nothing is dropped."""


class Prometheus:
    """In the control host's namespace, asking each service every second."""

    def __init__(self, scene: lab.Lab, folder: pathlib.Path) -> None:
        self._scene = scene
        targets = [f"{lab.CONTROL}:{port}" for port in lab.HEALTH_PORTS.values()]
        targets += [f"{address}:{lab.PROGRAMMER_HEALTH_PORT}" for address in NODES.values()]
        self.targets = len(targets)
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [{"job_name": "ebbgate", "static_configs": [{"targets": targets}]}],
        }
        path = folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        command = ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={folder / 'tsdb'}"]
        command += [f"--web.listen-address={lab.CONTROL}:{PORT}"]
        self.process = processes.Process(
            "prometheus", command, log=folder / "prometheus.log", netns=scene.netns("control")
        )

    def ask(self, query: str) -> list[dict[str, object]]:
        """The series that it answers with."""
        url = f"http://{lab.CONTROL}:{PORT}/api/v1/query?query={urllib.parse.quote(query)}"
        done = processes.run(self._scene.netns("control"), "curl", "-s", "--max-time", "5", url)
        if not done.stdout.startswith("{"):  # it isn't up yet
            return []
        answer = json.loads(done.stdout)
        assert answer["status"] == "success", answer
        found: list[dict[str, object]] = answer["data"]["result"]
        return found

    async def until(self, query: str, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.ask(query)) < count:
                await asyncio.sleep(0.2)


def queries() -> list[str]:
    found = [query.expr for board in dashboards.ALL for panel in board.panels for query in panel.queries]
    return [re.sub(r"\$(policy|node)", ".*", expr.replace("$__rate_interval", "30s")) for expr in found]


@pytest.mark.timeout(120)
async def test_every_panel_has_an_answer_and_no_alert_fires(scene: lab.Lab, tmp_path: pathlib.Path) -> None:
    prometheus = Prometheus(scene, tmp_path)
    with namespaces.entered(scene.netns("control")):
        scene.install()
        bus, watching = await scene.observe()
        prometheus.process.start()
        try:
            await prometheus.until("up == 1", prometheus.targets)
            await _be_busy(scene, watching)
            visits = 'ebbgate_programmer_egress_packets_total{egress_ip="10.168.60.100"} > 0'
            await prometheus.until(visits, 1)
            empty = await _unanswered(prometheus)
            alerts = prometheus.ask('ALERTS{alertstate="firing"}')
        finally:
            prometheus.process.stop()
            watching.stop()
            await bus.close()
    assert empty == []
    assert alerts == []


async def _unanswered(prometheus: Prometheus) -> list[str]:
    """Queries without an answer, as soon as there are none: a rate needs two samples."""
    deadline = asyncio.get_running_loop().time() + 30
    expected = [expr for expr in queries() if not UNEVENTFUL.search(expr)]
    while empty := [expr for expr in expected if not prometheus.ask(expr)]:
        if asyncio.get_running_loop().time() > deadline:
            return empty
        await asyncio.sleep(0.5)
    return []


async def _be_busy(scene: lab.Lab, watching: observer.Observer) -> None:
    generation = scene.source.apply(sources.manifests("egress-sample.yaml")[0])
    await watching.until(
        lambda seen: sample.programmed(seen.verdict(sample.NAME), generation) and seen.obeyed(*lab.NODES),
        what="the policy programmed",
    )
    scene.curl("mediabot", "/counted")
    await watching.until(
        lambda seen: bool(
            (stats := seen.get(subjects.stats("node1"), reports.Stats))
            and sample.NAME in stats.policies
            and stats.policies[sample.NAME].steered.packets
        ),
        what="the visit counted",
    )
