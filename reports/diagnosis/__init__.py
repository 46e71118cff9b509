"""From the verdicts of a run and the facts of its cluster to named causes, each with its fix.

Rules are data (``rules``); what they look at are small pure functions (``signs``); ``engine`` lets
the most specific rule win, puts consequences under their cause, and says *unknown* where no rule
knows, with what was ruled out.
"""

from reports.diagnosis.engine import diagnose, diagnosed

__all__ = ["diagnose", "diagnosed"]
