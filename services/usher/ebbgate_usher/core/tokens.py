"""Who a connection is, by what the API server says of its token. TokenReview ─▶ Principal, or why not.

Kubernetes binds a pod's token to the pod and writes the pod's node into it; a kubelet gets tokens for pods of
its own node only. So the node of a programmer isn't what it says, but what the API server vouches for.
"""

from collections.abc import Mapping

import msgspec

from ebbgate_bus.contracts.permissions import Principal, Role

NODE = "authentication.kubernetes.io/node-name"
_PREFIX = "system:serviceaccount:"


class User(msgspec.Struct, frozen=True):
    """Of a TokenReview's status."""

    username: str = ""
    extra: dict[str, tuple[str, ...]] = {}


class Review(msgspec.Struct, frozen=True):
    """A TokenReview's status."""

    authenticated: bool = False
    user: User = User()
    audiences: tuple[str, ...] = ()
    error: str = ""


class Rejected(msgspec.Struct, frozen=True):
    reason: str


def judge(review: Review, accounts: Mapping[str, Role], *, audience: str) -> Principal | Rejected:
    """`accounts`: NAMESPACE/NAME of ServiceAccounts → what they are.

    | authenticated | for our audience | known account | programmer: node named | |
    |---|---|---|---|---|
    | no | | | | rejected: the API server's word |
    | yes | no | | | rejected |
    | yes | yes | no | | rejected |
    | yes | yes | yes | no | rejected: not of a pod on a node |
    | yes | yes | yes | yes, or not a programmer | that principal |
    """
    if not review.authenticated:
        return Rejected(f"the API server doesn't know the token ({review.error or 'no reason given'})")
    if audience not in review.audiences:
        return Rejected(f"the token isn't for the audience {audience}")
    account = review.user.username.removeprefix(_PREFIX).replace(":", "/", 1)
    role = accounts.get(account) if review.user.username.startswith(_PREFIX) else None
    if role is None:
        return Rejected(f"{review.user.username} is nobody on this bus")
    if role is not Role.PROGRAMMER:
        return Principal(role)
    node = review.user.extra.get(NODE, ())
    if len(node) != 1:
        return Rejected(f"the token of {account} isn't bound to a pod on a node")
    return Principal(role, node[0])
