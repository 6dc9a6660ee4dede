"""PLAN: what it holds, where it differs from what is wanted, what may go from it, and in which batches.

Leg: Rows ─diff▶ row changes ─revision▶ batches: held, wanted and diff; release, presence and freed (what may
go, and when); revision.
"""
