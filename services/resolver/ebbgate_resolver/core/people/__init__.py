"""For people: what became of a policy, and what happens to a packet, with reasons.

Leg: Applied ─▶ Verdict (verdicts), and beside the walk (explain and its parts, ways). Says what is, and never
decides. `explain` finds everything by itself, which makes it the oracle of tests.
"""
