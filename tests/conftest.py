"""What all of the harness's own tests share."""

from __future__ import annotations

import signal

from hypothesis import settings

# A time limit per example tells how busy the machine is, not whether the code is right.
settings.register_profile("harness", deadline=None)
settings.load_profile("harness")

# A shell starts background jobs with SIGINT ignored, and ignored is inherited: the programs that
# the tests interrupt would never hear of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
