"""The table of permissions, and what the server is told of it."""

import json

import pytest

from ebbgate_bus.contracts import accounts, permissions, subjects
from ebbgate_bus.contracts.permissions import Principal, Role

EVERYBODY = [Principal(role, "node.1" if role is Role.PROGRAMMER else "") for role in Role]


@pytest.mark.parametrize("principal", EVERYBODY, ids=lambda each: each.role)
def test_everybody_has_an_inbox_of_its_own(principal: Principal) -> None:
    granted = permissions.grant(principal)
    assert permissions.may_subscribe(granted, f"{granted.inbox}.x")
    others = [permissions.grant(each) for each in EVERYBODY if each != principal]
    assert not any(permissions.may_subscribe(granted, f"{other.inbox}.x") for other in others)


def test_a_node_s_name_is_escaped_and_never_a_wildcard() -> None:
    granted = permissions.grant(Principal(Role.PROGRAMMER, "node.1"))
    assert subjects.status("node.1") in granted.publish
    assert granted.inbox == "_INBOX.node.node_1"
    for name in ("", "*", ">", "a b", "a_b"):
        with pytest.raises(ValueError, match="token"):
            permissions.grant(Principal(Role.PROGRAMMER, name))


@pytest.mark.parametrize(
    ("pattern", "subject", "covers"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b", "a", False),
        ("a", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
    ],
)
def test_a_pattern_covers_what_nats_says_it_does(pattern: str, subject: str, covers: bool) -> None:
    granted = permissions.Grant(account="A", inbox="i", api="a", publish=(pattern,), subscribe=(pattern,))
    assert permissions.may_publish(granted, subject) is covers
    assert permissions.may_subscribe(granted, subject) is covers


def _parsed(text: str) -> dict[str, dict[str, object]]:
    """nats-server's format, as JSON: each part is `name: value`."""
    (accounts_,) = [part for part in text.split("\n", 1)[1:]]
    decoded, _ = json.JSONDecoder().raw_decode(accounts_.removeprefix("accounts: "))
    assert isinstance(decoded, dict)
    return decoded


def test_users_stand_in_their_role_s_account_with_all_their_keys() -> None:
    found = _parsed(accounts.with_users({each: ["U1", "U2"] for each in EVERYBODY}))
    held = {name: len(account["users"]) for name, account in found.items()}  # type: ignore[arg-type]
    assert held == {permissions.CORE: 4, permissions.NODES: 2, permissions.READERS: 2}


@pytest.mark.parametrize(
    "text", [accounts.with_users({}), accounts.with_callout("A", ["U"])], ids=["users", "callout"]
)
def test_only_core_has_streams_and_each_import_is_of_something_exported_to_it(text: str) -> None:
    found = _parsed(text)
    assert [name for name, account in found.items() if "jetstream" in account] == [permissions.CORE]
    exported = {
        (owner, kind, export[kind], user)
        for owner, account in found.items()
        for export in account["exports"]  # type: ignore[attr-defined]
        for kind in ("stream", "service")
        if kind in export
        for user in export["accounts"]
    }
    imported = {
        (each[kind]["account"], kind, each[kind]["subject"], user)
        for user, account in found.items()
        for each in account["imports"]  # type: ignore[attr-defined]
        for kind in ("stream", "service")
        if kind in each
    }
    assert imported == exported
    assert {user for _, _, _, user in exported} | {owner for owner, *_ in exported} == set(found)


def test_with_a_callout_only_its_service_stands_in_the_configuration() -> None:
    text = accounts.with_callout("AISSUER", ["UCALLOUT"])
    found = _parsed(text)
    assert found[permissions.CALLOUT]["users"] == [{"nkey": "UCALLOUT"}]
    assert not any(found[name]["users"] for name in found if name != permissions.CALLOUT)
    assert '"issuer": "AISSUER"' in text
