"""Entries on paper: the table and the JSON that `cilium-dbg bpf egress list` prints.

Its scripts' readers find the same header, the same words and the same keys. On a terminal the header is bold;
anything else gets plain text.
"""

import json
from collections.abc import Iterable

from rich import console, text

from ebbgate_resolver.core import listing

HEADER = ("Source IP", "Destination CIDR", "Egress IP", "Gateway IP")
JSON_KEYS = ("SourceIP", "DestCIDR", "EgressIP", "GatewayIP")
_WORDS = {listing.NOT_FOUND: "Not Found", listing.EXCLUDED: "Excluded CIDR"}
_GAP = "   "


def cells(entry: listing.Entry) -> tuple[str, str, str, str]:
    gateway = _WORDS.get(entry.gateway_ip, entry.gateway_ip)
    return (entry.source, entry.destination, entry.egress_ip, gateway)


def table(entries: Iterable[listing.Entry]) -> str:
    lines = [HEADER, *map(cells, entries)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_json(entries: Iterable[listing.Entry]) -> str:
    listed = [dict(zip(JSON_KEYS, cells(entry), strict=True)) for entry in entries]
    return json.dumps(listed, indent=2)


def show(entries: list[listing.Entry], *, as_json_: bool) -> None:
    """To standard output. An empty table says so on standard error, as Cilium's does."""
    if as_json_:
        print(as_json(entries))
    elif not entries:
        console.Console(stderr=True, highlight=False).print("No entries found.")
    else:
        header, _, rest = table(entries).partition("\n")
        out = console.Console(highlight=False, soft_wrap=True)
        out.print(text.Text(header, style="bold"))
        out.print(text.Text(rest))
