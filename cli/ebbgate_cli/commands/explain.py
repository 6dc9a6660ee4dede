"""`ebbgate explain`: what happens to a packet, and why. Arguments and exit codes; the core explains."""

import difflib
from typing import Annotated

import msgspec
import typer

from ebbgate_bus.contracts import facts
from ebbgate_bus.runtime import access
from ebbgate_cli import explanations, output, scene
from ebbgate_cli.commands import options
from ebbgate_resolver.core import addresses
from ebbgate_resolver.core.people import explain, explain_pods
from ebbgate_resolver.core.people.explanation import Explanation

_UNKNOWN, _USAGE = 1, 2


@options.asking
def command(
    pod: Annotated[str, typer.Argument(metavar="NAMESPACE/POD", help="A pod by name, or by its address.")],
    destination: Annotated[str, typer.Argument(metavar="DESTINATION", help="An IP address.")],
    *,
    why_not: Annotated[
        str, typer.Option(metavar="POLICY", help="Only why this policy decides, or doesn't.")
    ] = "",
    folder: options.Folder = None,
    reach: access.Access,
    form: options.OutputForm = output.Form.TABLE,
) -> None:
    """Explain what happens to a packet from a pod to a destination: verdict first, then the reasons.

    Example: `ebbgate explain default/mediabot 198.51.100.7`. With `--from DIR` manifests are asked instead of
    the cluster; every node then counts as having done what it was told.

    Exit code 1 if pod or policy is unknown, 2 if the arguments can't be understood.
    """
    address = addresses.address(destination)
    if address is None:
        raise _complain(_USAGE, f"{destination!r} is not an IP address; names are not looked up here")
    seen = options.read_scene(folder, reach)
    packet = explain.Packet(*_pod(seen, pod, address))
    told = explain.explain(explain.view(seen.known, seen.held, seen.setting), packet)
    _print(told, why_not, form)


def _pod(
    seen: scene.Scene, text: str, destination: addresses.Address
) -> tuple[facts.Pod, addresses.Address, str]:
    address = addresses.address(text)
    named = text if "/" in text or address else f"default/{text}"
    found = explain_pods.find(seen.known, named)
    if found is None:
        raise _complain(_UNKNOWN, f"no pod {named} is known{_meant(explain_pods.near(seen.known, named))}")
    if address and address.version != destination.version:
        raise _complain(_USAGE, f"{address} and {destination} are not of the same IP family")
    return found, destination, str(address or "")


def _print(told: Explanation, why_not: str, form: output.Form) -> None:
    answers = {each.policy: each for each in told.policies}
    if why_not and why_not not in answers:
        near = difflib.get_close_matches(why_not, answers, n=3)
        raise _complain(_UNKNOWN, f"no policy {why_not} is known{_meant(near)}")
    if form.is_data:
        raw = msgspec.json.encode(answers[why_not] if why_not else told)
        output.data(form, msgspec.json.format(raw).decode())
    else:
        print(explanations.answer_text(answers[why_not]) if why_not else explanations.text(told))


def _meant(near: list[str]) -> str:
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _complain(code: int, text: str) -> typer.Exit:
    output.complain([text])
    return typer.Exit(code)
