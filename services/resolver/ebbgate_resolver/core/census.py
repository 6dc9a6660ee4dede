"""The census: how much of everything the resolver holds, counted when somebody asks.

Beside the walk: it decides nothing. At 5,000 nodes it looks at each node once, and at no row.
"""

import msgspec

from ebbgate_bus.contracts import facts, subjects
from ebbgate_resolver.core import inventory
from ebbgate_resolver.core.incremental import ledger
from ebbgate_resolver.core.plan import held


class Census(msgspec.Struct, frozen=True):
    """`objects`: by kind. `rows`: in the shared scope (`all`) and in those of nodes (`node`). `nodes`: by how
    far they are with the plan.
    """

    objects: dict[str, int]
    rows: dict[str, int]
    nodes: dict[str, int]
    revision: int


def take(known: inventory.Inventory, plan: held.Held) -> Census:
    shared = plan.totals.get(subjects.ALL_SCOPE, held.Total()).count
    objects = {kind: len(known.of_kind(kind)) for kind in (*facts.KINDS, "nodenetwork")}
    rows = {"all": shared, "node": sum(total.count for total in plan.totals.values()) - shared}
    return Census(objects, rows, _nodes(known, plan), plan.revision)


def _nodes(known: inventory.Inventory, plan: held.Held) -> dict[str, int]:
    """
    | the node's report | counts as |
    |---|---|
    | there is none | silent |
    | of older revisions than the Commits of its scopes | behind |
    | of these | programmed |
    """
    found = {"programmed": 0, "behind": 0, "silent": 0}
    news = ledger.News(plan.commits, {})
    for node in known.nodes:
        if known.report(node) is None:
            found["silent"] += 1
        else:
            found["programmed" if ledger.is_up_to_date(node, known, news) else "behind"] += 1
    return found
