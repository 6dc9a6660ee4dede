"""Decides which pod leaves by which gateway. PURE: facts and reports in, rows and verdicts out.

The leg of the walk: Fact ─fold▶ Inventory ─resolve▶ Rows ─diff▶ changes ─revision▶ batches. `resolve` is the
reference, in full, at each step; `engine` is what a shell drives. No module here awaits, reads a clock, rolls
dice, logs or opens anything: the time is an argument and every answer carries its reason.
"""
