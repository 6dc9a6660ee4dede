"""The server's configuration, as text: accounts, what leads from one to another, and who is in them.

Two forms of one table (`permissions`): users with an nkey each, for a list of nodes known beforehand; or a
callout service that is asked about each connection, where nodes come and go. nats-server reads both by
`include`, whatever else stands in its configuration.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ebbgate_bus.contracts import permissions
from ebbgate_bus.contracts.permissions import CALLOUT, CORE, NODES, READERS, Flow, Grant, Principal

Keys = Mapping[Principal, Sequence[str]]
"""Public nkeys of each principal; more than one while they are rotated."""
CALLOUT_SUBJECT = "$SYS.REQ.USER.AUTH"


def with_users(keys: Keys) -> str:
    """For who has an nkey each."""
    users: dict[str, list[dict[str, object]]] = {}
    for principal in sorted(keys, key=lambda each: (each.role, each.node)):
        granted = permissions.grant(principal)
        users.setdefault(granted.account, []).extend(
            {"nkey": key, "permissions": limits(granted)} for key in keys[principal]
        )
    return _text({"accounts": _accounts((CORE, NODES, READERS), users)})


def with_callout(issuer: str, callout: Sequence[str]) -> str:
    """`issuer`: the account nkey that signs answers; `callout`: user nkeys of the service itself."""
    users = {CALLOUT: [{"nkey": key} for key in callout]}
    accounts = _accounts((CORE, NODES, READERS, CALLOUT), users)
    asked = {"issuer": issuer, "auth_users": list(callout), "account": CALLOUT}
    return _text({"accounts": accounts, "authorization": {"timeout": 5, "auth_callout": asked}})


def limits(granted: Grant) -> dict[str, Any]:
    """Whatever isn't allowed is denied."""
    return {"publish": {"allow": list(granted.publish)}, "subscribe": {"allow": list(granted.subscribe)}}


def _accounts(names: Sequence[str], users: Mapping[str, Sequence[object]]) -> dict[str, object]:
    flows = [flow for flow in permissions.FLOWS if {flow.owner, flow.user} <= set(names)]
    return {
        name: {
            **({"jetstream": "enabled"} if name == CORE else {}),
            "users": list(users.get(name, ())),
            "exports": _exports(name, flows),
            "imports": _imports(name, flows),
        }
        for name in names
    }


def _exports(owner: str, flows: Sequence[Flow]) -> list[dict[str, object]]:
    """To the accounts named only."""
    users: dict[tuple[str, str, bool], list[str]] = {}
    for flow in flows:
        if flow.owner == owner:
            users.setdefault((_kind(flow), flow.subject, flow.many), []).append(flow.user)
    return [
        {kind: subject, "accounts": accounts, **({"response_type": "stream"} if many else {})}
        for (kind, subject, many), accounts in users.items()
    ]


def _imports(user: str, flows: Sequence[Flow]) -> list[dict[str, object]]:
    return [
        {_kind(flow): {"account": flow.owner, "subject": flow.subject}}
        | ({"to": permissions.foreign(flow.subject)} if flow.asked else {})
        for flow in flows
        if flow.user == user
    ]


def _kind(flow: Flow) -> str:
    return "service" if flow.asked else "stream"


def _text(configuration: dict[str, object]) -> str:
    """nats-server's own format takes JSON, but for the outermost braces in a file that is included."""
    parts = [f"{name}: {json.dumps(value, indent=1)}" for name, value in configuration.items()]
    return "# Written by ebbgate from its table of permissions.\n" + "\n".join(parts) + "\n"
