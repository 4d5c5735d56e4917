"""Statistics of a run: percentiles, confidence intervals, and comparisons of variants and of results."""
