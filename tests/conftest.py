"""Every test draws the same examples in every run; HYPOTHESIS_PROFILE=explore looks for new ones.

No example has a deadline: a busy machine is no fault of what is tested, and speed is for `tests/bench`.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
