"""Make a recording of a run: ``python -m tests.diagnosis.record RUN recorded/F11.json``.

Kept is what rules read; waits, evidence and what was not tested are left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

from reports.model import Results, read


def trimmed(results: Results) -> Results:
    """The part of a run that diagnoses follow from, without the diagnoses."""
    return results.model_copy(
        update={
            "requirements": tuple(
                result.model_copy(update={"waits": (), "evidence": (), "repeat": ""})
                for result in results.requirements
            ),
            "summary": results.summary.model_copy(update={"not_tested": ()}),
            "run": results.run.model_copy(update={"argv": ()}),
            "diagnoses": (),
        }
    )


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    text = trimmed(read(source)).model_dump_json(by_alias=True, exclude_defaults=True)
    target.write_text(text + "\n", encoding="utf-8")
