"""``docs/diagnoses.md``: every rule, word for word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from reports.diagnosis.engine import diagnose
from reports.diagnosis.rule import Depth, Rule, blank
from reports.diagnosis.rules import RULES
from reports.diagnosis.show import diagnosis_lines
from reports.diagnosis.signs import Finding
from reports.model import Diagnosis, read

DOCS_FILE: Final = Path("docs") / "diagnoses.md"
RECORDINGS: Final = Path("tests") / "diagnosis" / "recorded"  # results.json of runs with a fault

HEAD: Final = """# Diagnoses

Generated from the rules in `reports/diagnosis/rules/` by `python -m reports docs --write`; do not
edit.

A rule names the cause of failed requirements. It holds when all its signs are there. Of several
that hold, the one that looks deepest wins (a setting that an operator wrote, before the state of a
component, before lost packets), then the one with more signs; what it explains is listed under it
and is not explained again. What no rule explains is *unknown*: the report then says which causes
were ruled out, and which were not looked at. Words in capitals are filled in by what was observed,
those in brackets where there is anything to say; IPFAMILY is IPv4 or IPv6, and what
is said with a 6 for IPv6 is said with a 4 for IPv4. The faults are those that the rule is proved
with.
"""

DEPTHS: Final = {
    Depth.SETTING: "A setting is wrong",
    Depth.STATE: "A component's state is wrong",
    Depth.TRAFFIC: "Packets are lost",
}


def render(printed: Mapping[str, Sequence[Diagnosis]], rules: Sequence[Rule] = RULES) -> str:
    """The page as Markdown.

    Args:
        printed: by fault, the diagnoses of a recorded run in which it was planted.
    """
    parts = [HEAD, _by_fault(rules)]
    for depth in sorted(Depth, reverse=True):
        parts.append(f"## {DEPTHS[depth]}\n")
        parts += [_section(rule, printed) for rule in rules if rule.depth is depth]
    return "\n".join(parts)


def render_for(root: Path) -> str:
    """The page for the repository at ``root``, with what its recordings are diagnosed as."""
    recordings = sorted((root / RECORDINGS).glob("*.json"))
    return render({path.stem: diagnose(read(path)) for path in recordings})


def _by_fault(rules: Sequence[Rule]) -> str:
    rows = [(fault, rule) for rule in rules for fault in rule.faults]
    rows.sort(key=lambda row: (row[0][:1], row[0]))
    lines = ["| fault | diagnosis |", "|---|---|"]
    lines += [
        f"| {fault} | [{rule.name}](#{rule.name}): {_cell(blank(rule.cause))} |"
        for fault, rule in rows
    ]
    return "\n".join(lines) + "\n"


def _section(rule: Rule, printed: Mapping[str, Sequence[Diagnosis]]) -> str:
    families = "" if len(rule.families) > 1 else f" ({rule.families[0].kubernetes} only)"
    lines = [f"### {rule.name}", "", f"> {_cell(blank(rule.cause))}", ""]
    lines += [f"Signs{families}:", ""]
    for sign in rule.signs:
        if sign.told():
            lines.append(f"- {_cell(sign.told())}")
            if isinstance(sign, Finding):
                lines.append(f"  (*{_cell(sign.sample)}*)")
    lines += ["", "Fix:", ""]
    lines += [f"- {_step(blank(step))}" for step in rule.fix]
    lines += ["", f"May follow from it: {', '.join(dict.fromkeys(rule.explains))}.", ""]
    if rule.faults:
        lines += [f"Proved with: {', '.join(rule.faults)}.", ""]
    for fault in rule.faults:
        for found in printed.get(fault.replace("/", "-"), ()):
            if found.rule == rule.name:
                lines += [
                    f"Printed when {fault} was planted:",
                    "",
                    "```",
                    *_printed(found),
                    "```",
                    "",
                ]
    return "\n".join(lines)


COMMANDS: Final = ("kubectl ", "calicoctl ", "journalctl ", "ip ", "sysctl ")


def _step(text: str) -> str:
    """Commands as code, their remarks and all else as text."""
    command, _, remark = text.partition("   # ")
    if not command.startswith(COMMANDS) or ", or " in command:
        return _cell(text)
    return f"`{command}`" + (f" ({_cell(remark)})" if remark else "")


def _printed(found: Diagnosis) -> list[str]:
    return [line for line in diagnosis_lines([found]) if line][1:]  # without the count


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")
