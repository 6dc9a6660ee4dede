"""An explanation on paper: the verdict in one line, then the reasons as an indented tree. Pure."""

from collections.abc import Iterable, Iterator

from ebbgate_resolver.core.people.explanation import Answer, Explanation, Outcome, Result, Why

_INDENT = "  "
_NAMED_MAX = 5
"""Policies without a say that are explained one by one; more are counted."""


def text(of: Explanation) -> str:
    return "\n".join((_headline(of), *_lines(_reasons(of), 1)))


def answer_text(answer: Answer) -> str:
    """For `--why-not`: one policy's."""
    return "\n".join(_lines([_of_answer(answer)], 0))


def _headline(of: Explanation) -> str:
    who = ", ".join(part for part in (of.source, f"on {of.node}" if of.node else "") if part)
    return f"{of.pod} ({who}) → {of.destination}: {of.outcome.upper()}, {of.reason}"


def _reasons(of: Explanation) -> Iterator[Why]:
    deciding = next((each for each in of.policies if each.policy == of.policy), None)
    if deciding is not None:
        yield _of_answer(deciding)
    if of.outcome in (Outcome.STEERED, Outcome.DROPPED):
        yield from _way(of)
    yield from of.why
    others = tuple(_others([each for each in of.policies if each is not deciding]))
    if others:
        yield Why("the other policies" if deciding else "the policies", others)


def _way(of: Explanation) -> Iterator[Why]:
    if of.gateway:
        yield Why(f"gateway {of.gateway}: the traffic is sent to {of.gateway_ip}")
    if of.egress_ip:
        slot = f", slot {of.slot}" if of.slot else ""
        yield Why(f"egress IP {of.egress_ip} on {of.interface}{slot}")


def _others(answers: list[Answer]) -> Iterator[Why]:
    """Those that had a say first; those that never concern the pod are counted where they are many."""
    quiet = [each for each in answers if each.result in (Result.NOT_CHOSEN, Result.NOT_COVERED)]
    named = answers if len(quiet) <= _NAMED_MAX else [each for each in answers if each not in quiet]
    yield from map(_of_answer, sorted(named, key=lambda each: (each in quiet, each.policy)))
    if len(quiet) > _NAMED_MAX:
        apart = sum(each.result is Result.NOT_CHOSEN for each in quiet)
        yield Why(
            f"{apart} don't choose the pod, {len(quiet) - apart} cover other destinations "
            "(--why-not NAME tells why)"
        )


def _of_answer(answer: Answer) -> Why:
    return Why(f"policy {answer.policy}: {answer.result}", answer.why)


def _lines(reasons: Iterable[Why], depth: int) -> Iterator[str]:
    for each in reasons:
        yield _INDENT * depth + each.text
        yield from _lines(each.because, depth + 1)
