"""Decides which pod leaves by which gateway. PURE: facts and reports in, rows and verdicts out.

The leg of the walk: Fact ─fold▶ Inventory ─resolve▶ Rows ─diff▶ changes ─revision▶ batches. `engine` is what
a shell drives. No module here awaits, reads a clock, rolls dice, logs or opens anything: the time is an
argument and every answer carries its reason. Where to look:

    the rules             policies (what is accepted), selectors, endpoints (who), gateways, routes (where to,
                          whose CIDR wins), slots, gate (when a path opens), surroundings, versions
    the reference         resolve: all rows in full from the rules; held: PLAN as it is
    at the change's cost  incremental, and under it labels, crowds, placement, sets, judging, choices,
                          allotments, steering, borders: the same rules followed object by object; tests hold
                          it against `resolve`
    what may be written   wanted and diff (what differs), release, presence, freed (what may go), revision
    what is said          verdicts, ledger, troubles, noted, answers; for people listing, explain…, ways and
                          simulation
"""
