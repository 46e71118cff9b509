"""What all of the harness's own tests share."""

from __future__ import annotations

from hypothesis import settings

# A time limit per example tells how busy the machine is, not whether the code is right.
settings.register_profile("harness", deadline=None)
settings.load_profile("harness")
