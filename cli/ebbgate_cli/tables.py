"""Entries on paper: the table and the JSON that `cilium-dbg bpf egress list` prints.

Its scripts' readers find the same header, the same words and the same keys. On a terminal the header is bold;
anything else gets plain text.
"""

import json
from collections.abc import Iterable

from ebbgate_cli import columns, output
from ebbgate_resolver.core import listing

HEADER = ("Source IP", "Destination CIDR", "Egress IP", "Gateway IP")
JSON_KEYS = ("SourceIP", "DestCIDR", "EgressIP", "GatewayIP")
_WORDS = {listing.NOT_FOUND: "Not Found", listing.EXCLUDED: "Excluded CIDR"}


def cells(entry: listing.Entry) -> tuple[str, str, str, str]:
    gateway = _WORDS.get(entry.gateway_ip, entry.gateway_ip)
    return (entry.source, entry.destination, entry.egress_ip, gateway)


def table(entries: Iterable[listing.Entry]) -> str:
    return columns.lay_out(HEADER, [cells(entry) for entry in entries])


def as_json(entries: Iterable[listing.Entry]) -> str:
    listed = [dict(zip(JSON_KEYS, cells(entry), strict=True)) for entry in entries]
    return json.dumps(listed, indent=2)


def show(entries: list[listing.Entry], form: output.Form) -> None:
    """To standard output. An empty table says so on standard error, as Cilium's does."""
    if form.is_data:
        output.data(form, as_json(entries))
    elif not entries:
        output.console(stderr=True).print("No entries found.")
    else:
        columns.show(HEADER, [cells(entry) for entry in entries])
