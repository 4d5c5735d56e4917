"""Percentiles, intervals, comparisons of variants and of results."""
