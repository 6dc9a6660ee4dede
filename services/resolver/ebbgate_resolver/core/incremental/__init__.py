"""At the change's cost: the same rules followed object by object, with indexes of who is concerned.

Leg: Inventory ─resolve▶ Rows, for one that changes. `incremental` walks the stages: judging, labels, crowds
(who), placement, sets (endpoint and set rows), choices, allotments, steering (group and egress rows) and
borders; ledger and troubles for verdicts, noted for the log. Nothing is decided here that `rules` doesn't
decide.
"""
