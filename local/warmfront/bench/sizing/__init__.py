"""Queueing formulas, capacity plans and Lambda prices."""
