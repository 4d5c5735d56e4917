"""Generates load: workload files, rendered requests, closed and open loops, in a process of its own."""
