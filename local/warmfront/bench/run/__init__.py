"""Runs a benchmark: session, blocks, accounting, equal load, sweeps, and the checks that make a run valid."""
