"""Escape codes are for terminals alone, and for those only without NO_COLOR."""

import os
import pathlib
import subprocess
import sys

import pytest

MANIFESTS = """
apiVersion: v1
kind: Namespace
metadata: {name: default}
---
apiVersion: v1
kind: Node
metadata: {name: node1}
status: {addresses: [{type: InternalIP, address: 10.168.60.11}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: default, uid: u1}
spec: {nodeName: node1}
status: {phase: Running, podIPs: [{ip: 10.244.1.10}]}
---
apiVersion: cilium.io/v2
kind: CiliumEgressGatewayPolicy
metadata: {name: good, uid: p1}
spec:
  selectors: [{podSelector: {}}]
  destinationCIDRs: [0.0.0.0/0]
  egressGateway: {nodeSelector: {}, egressIP: 10.168.60.100}
---
apiVersion: cilium.io/v2
kind: CiliumEgressGatewayPolicy
metadata: {name: bad, uid: p2}
"""


def told(folder: pathlib.Path, environment: dict[str, str], *, terminal: bool) -> str:
    """What a command with a table, and one with a complaint, write."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    said = ""
    for arguments in (["plan", str(folder)], ["list", "--nats", "context:none"]):
        ours, theirs = os.openpty() if terminal else os.pipe()
        with subprocess.Popen(
            [sys.executable, "-m", "ebbgate_cli", *arguments],
            stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
            env=inherited | {"TERM": "xterm-256color"} | environment,
        ) as process:  # fmt: skip
            os.close(theirs)
            said += _all(ours)
        assert process.returncode in (0, 1, 2)
    return said


def _all(ours: int) -> str:
    """To its end, which of a terminal is an error."""
    read = b""
    with os.fdopen(ours, "rb", buffering=0) as file:
        try:
            while part := file.read(4096):
                read += part
        except OSError:
            pass
    return read.decode()


@pytest.mark.parametrize(
    ("environment", "terminal", "coloured"),
    [({}, True, True), ({"NO_COLOR": "1"}, True, False), ({}, False, False)],
    ids=["terminal", "NO_COLOR", "pipe"],
)
def test_escape_codes(
    environment: dict[str, str], terminal: bool, coloured: bool, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "all.yaml").write_text(MANIFESTS)
    said = told(tmp_path, environment, terminal=terminal)
    assert "Destination CIDR" in said
    assert "policy bad" in said
    assert "there is no NATS context none" in said
    assert ("\x1b" in said) == coloured
