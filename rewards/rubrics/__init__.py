"""Rubrics: reading what a model says of each criterion, what that comes to, and who wins which criterion.

reply --reading.py--> one Judged per criterion --aggregate.py--> the verdict's number --win_rates.py--> per criterion
written.py    criteria that a model writes          store.py    where those of a prompt are kept
"""
