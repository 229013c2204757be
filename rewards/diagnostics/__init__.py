"""Is the judge fit to learn from? Pure functions over scored groups, each figure with its interval.

Rates of single verdicts (order flips, ties, first seat, failures) are in `rewards.health`; `diagnose` gives everything.
"""
