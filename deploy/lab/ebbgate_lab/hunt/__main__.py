"""`python -m ebbgate_lab.hunt`: hunts with each of several seeds; exit status 1 if one found a leak.

With `--document` the result goes into docs/reliability.md, leaks too: a page that only knows good news isn't
worth reading.
"""

import argparse
import asyncio
import datetime
import logging
import os
import pathlib
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Sequence

from ebbgate_lab import lab, prerequisites
from ebbgate_lab.hunt import damage, hunter, judge, packets

PREFIX = "ebh-"
DOCUMENT = pathlib.Path("docs/reliability.md")
BEGIN, END = "<!-- hunt:begin -->", "<!-- hunt:end -->"
SHOWN = 20
"""Kinds of wrong packets printed, one of each."""


def main() -> None:
    given = _arguments()
    if lacking := prerequisites.missing():
        sys.exit("\n  - ".join(["The hunt can't run here. Missing:", *lacking]))
    logging.basicConfig(
        level=logging.INFO if given.verbose else logging.ERROR,
        format="%(created).6f %(message)s",
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        # Both take the way out through `finally`, also where a shell had SIGINT ignored.
        signal.signal(number, signal.default_int_handler)
    seeds = given.seed or [secrets.randbelow(1_000_000) for _ in range(given.seeds)]
    accounts = []
    for seed in seeds:
        print(f"seed {seed}, {given.seconds:g} s", flush=True)
        accounts.append(_hunt(seed, given.seconds, damage.EVERYTHING if given.nft else damage.ROUTING))
        _tell(accounts[-1])
    if given.document:
        _document(accounts, "of every kind" if given.nft else "of every kind but nftables'")
    sys.exit(any(account.lost or account.verdict.wrong for account in accounts))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hunt", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of changes, for each seed")
    parser.add_argument("--seeds", type=int, default=3, help="how many, each drawn at random and printed")
    parser.add_argument("--seed", type=int, action="append", help="this one; may be given several times")
    parser.add_argument("--nft", action="store_true", help="damage nft chains and tables, too")
    parser.add_argument("--verbose", action="store_true", help="say what is done, when it is")
    parser.add_argument("--document", action="store_true", help=f"write the result into {DOCUMENT}")
    return parser.parse_args()


def _hunt(seed: int, seconds: float, harm: Sequence[str]) -> hunter.Account:
    scene = lab.Lab(prefix=PREFIX, network=hunter.network(PREFIX))
    try:
        return asyncio.run(hunter.hunt(scene, seed=seed, seconds=seconds, harm=harm))
    except TimeoutError:
        print(scene.log_tail(20))
        raise
    finally:
        scene.down()


def _tell(account: hunter.Account) -> None:
    print(account.text(), flush=True)
    if account.lost:
        print(f"  void: the capture missed {account.lost} packets")
    alike: dict[object, list[judge.Wrong]] = {}
    for wrong in account.verdict.wrong:
        alike.setdefault((wrong.periods[-1].text, wrong.packet.pod, wrong.packet.source), []).append(wrong)
    for first, *others in list(alike.values())[:SHOWN]:
        until_ms = (([first, *others][-1]).packet.at_ns - first.packet.at_ns) / 1e6
        print(f"{first.text()}\n  and {len(others)} more like it, within {until_ms:.1f} ms")


def _document(accounts: Sequence[hunter.Account], harm: str) -> None:
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"{DOCUMENT} has no section for the hunt"
    DOCUMENT.write_text("\n".join((before + BEGIN, *_lines(accounts, harm), END + after)))


def _lines(accounts: Sequence[hunter.Account], harm: str) -> Iterator[str]:
    today = datetime.datetime.fromtimestamp(time.time(), datetime.UTC).date()
    where = f"{os.cpu_count()} cores, Linux {os.uname().release}"
    yield f"Last long run: {today}, on {where}, with damage {harm}."
    yield ""
    yield "| seed | minutes | changes | kills | damages | packets judged | not as their node | wrong |"
    yield "|---:|---:|---:|---:|---:|---:|---:|---:|"
    for account in accounts:
        found = account.verdict
        yield (
            f"| {account.seed} | {account.seconds / 60:.0f} | {account.changes:,} | {account.kills} "
            f"| {account.damages} "
            f"| {found.judged:,} | {found.steered:,} | **{len(found.wrong)}** |"
        )
    yield ""
    by_kind = [sum(counts) for counts in zip(*(each.verdict.by_kind for each in accounts), strict=True)]
    kinds = [f"{count:,} of {kind}" for count, kind in zip(by_kind, packets.KINDS, strict=True)]
    ipv6 = sum(account.verdict.ipv6 for account in accounts)
    yield f"Of the packets judged: {', '.join(kinds)}; {ipv6:,} of IPv6."


if __name__ == "__main__":
    main()
