"""Decides which pod leaves by which gateway. PURE: facts and reports in, rows and verdicts out.

The leg of the walk: Fact ─fold▶ Inventory ─resolve▶ Rows ─diff▶ changes ─revision▶ batches. `engine` is what
a shell drives. No module here awaits, reads a clock, rolls dice, logs or opens anything: the time is an
argument and every answer carries its reason. Where to look:

    engine        what the shell drives; simulation drives the same for people
    rules/        what a policy means: accepted, who, where to, whose CIDR wins, by whom, when a path opens
    resolve       the reference: all rows in full from the rules
    incremental/  the same rows at the change's cost; tests hold it against `resolve`
    plan/         what PLAN holds, what differs, what may go, in which batches
    people/       verdicts, explain, ways; listing shows rows as Cilium's users know them
    inventory     all current facts; addresses and answers are words that all use
"""
