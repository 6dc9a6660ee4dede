"""The cluster's DNS: names of Services, and of the pods behind those without an address. What CoreDNS does
for a real cluster, as far as Ebbgate asks: IPv4, over UDP.

    python -m ebbgate_lab.cluster.dns FOLDER

`FOLDER`/dns.json says who asks whom. Each question is answered from the API server as it is then.
"""

import http.client
import json
import pathlib
import socket
import struct
import sys
from collections.abc import Sequence

from ebbgate_lab import apiclient

DOMAIN = "cluster.local"
PORT = 53
TTL_S = 1
LIMIT = 512
_A, _IN = 1, 1
_FAILED, _UNKNOWN = 2, 3
_ANSWER = 0x8580
"""An authoritative answer, to one who wants recursion."""


def main() -> None:
    told = json.loads((pathlib.Path(sys.argv[1]) / "dns.json").read_text())
    authority = pathlib.Path(told["authority"])
    client = apiclient.Client(told["host"], told["port"], token=told["token"], authority=authority)
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind((told["host"], PORT))
    while True:
        question, asker = listening.recvfrom(LIMIT)
        listening.sendto(answer(client, question), asker)


def answer(client: apiclient.Client, question: bytes) -> bytes:
    """The packet that answers the packet `question`, of which one question is read."""
    identity = struct.unpack("!H", question[:2])[0]
    labels, end = _labels(question)
    asked = question[12 : end + 4]
    kind = struct.unpack("!H", question[end : end + 2])[0]
    code, found = _look_up(client, labels)
    shown = found if kind == _A else []
    head = struct.pack("!HHHHHH", identity, _ANSWER | code, 1, len(shown), 0, 0)
    records = (struct.pack("!HHHIH", 0xC00C, _A, _IN, TTL_S, 4) + socket.inet_aton(each) for each in shown)
    return head + asked + b"".join(records)


def _labels(packet: bytes) -> tuple[list[str], int]:
    """The name that is asked for, and where it ends."""
    labels, at = [], 12
    while length := packet[at]:
        labels.append(packet[at + 1 : at + 1 + length].decode(errors="replace"))
        at += 1 + length
    return labels, at + 1


def _look_up(client: apiclient.Client, labels: Sequence[str]) -> tuple[int, list[str]]:
    """DNS's code, and the addresses of `[POD.]SERVICE.NAMESPACE.svc.cluster.local`."""
    *name, kind, first, second = [label.lower() for label in labels] if len(labels) > 4 else ["", "", "", ""]
    if (kind, f"{first}.{second}") != ("svc", DOMAIN) or len(name) not in (2, 3):
        return _UNKNOWN, []
    *pod, service, namespace = name
    try:
        addresses = _addresses(client, namespace, service, pod[0] if pod else "")
    except (OSError, http.client.HTTPException):
        return _FAILED, []
    return (0 if addresses else _UNKNOWN), addresses


def _addresses(client: apiclient.Client, namespace: str, service: str, pod: str) -> list[str]:
    status, found = client.request("GET", f"/api/v1/namespaces/{namespace}/services/{service}")
    if status != 200:
        return []
    address = found["spec"].get("clusterIP", "None")
    if address != "None":
        return [] if pod else [address]
    selector = f"labelSelector=kubernetes.io%2Fservice-name%3D{service}"
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?{selector}"
    endpoints = [each for slice_ in client.call("GET", path)["items"] for each in slice_["endpoints"] or ()]
    chosen = (each for each in endpoints if not pod or each.get("hostname") == pod)
    return [address for each in chosen for address in each["addresses"]]


if __name__ == "__main__":
    main()
