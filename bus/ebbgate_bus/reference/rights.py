"""docs/bus/permissions.md: who may say and hear what, from the table that servers and clients have."""

from ebbgate_bus.contracts import permissions
from ebbgate_bus.contracts.permissions import Principal, Role

_HEAD = """# Who may do what on the bus

Made from `bus/ebbgate_bus/contracts/permissions.py` by `make reference`. Whatever isn't listed is denied; a
test tries it on the real server, and [security.md](../security.md) says why it is so. `NODE` is a node's
name, with `.` written `_`.
"""
_NODE = "NODE"


def text() -> str:
    parts = [
        _HEAD,
        *(_of(Principal(role, _NODE if role is Role.PROGRAMMER else "")) for role in Role),
        _flows(),
    ]
    return "\n".join(parts)


def _of(principal: Principal) -> str:
    granted = permissions.grant(principal)
    lines = [f"## {principal.role}", "", f"In the account `{granted.account}`.", "", "| may say |", "|---|"]
    lines += [f"| `{subject}` |" for subject in granted.publish]
    lines += ["", "| may hear |", "|---|", *(f"| `{subject}` |" for subject in granted.subscribe), ""]
    return "\n".join(lines)


def _flows() -> str:
    lines = ["## Between accounts", "", "| of | may be | by | under the name |", "|---|---|---|---|"]
    for flow in permissions.FLOWS:
        verb = "asked" if flow.asked else "heard"
        name = permissions.foreign(flow.subject) if flow.asked else flow.subject
        lines.append(f"| `{flow.owner}`: `{flow.subject}` | {verb} | `{flow.user}` | `{name}` |")
    return "\n".join(lines) + "\n"
