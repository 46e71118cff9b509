"""What the page says; how it looks is asked in ``test_rendered``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from helpers.model import Verdict
from reports.__main__ import main
from reports.figures import Timeline
from reports.html import lanes, matrices, render, view
from reports.html.matrices import Look, short_names
from reports.model import Results
from tests.reports import sample

LOADING = {"src", "srcset", "poster", "data", "background", "action", "formaction", "ping"}


@dataclass
class Page(HTMLParser):
    """Elements, links and texts of a page; complains when elements do not nest."""

    text: str
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)

    VOID = frozenset({"meta", "link", "br", "img", "input", "rect", "line"})

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)
        assert self.stack == [], f"never closed: {self.stack}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.stack.append(tag)
        if tag in self.VOID and tag in ("meta", "link", "br", "img", "input"):
            self.stack.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag, f"</{tag}> closes something else, {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def attributes(self, name: str) -> Iterator[str]:
        return (a[name] or "" for _, a in self.elements if name in a)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("runs") / "20261124-093000-abcd"
    made.mkdir()
    sample.run(made)
    (made / "timeline.json").write_text(json.dumps(sample.timeline()))
    (made / "changes.json").write_text(json.dumps(sample.CHANGES))
    return made


@pytest.fixture(scope="module")
def results(directory: Path) -> Results:
    return sample.run(directory)


@pytest.fixture(scope="module")
def page(directory: Path, results: Results) -> Page:
    return Page(render.render(results, directory))


def test_page_needs_nothing_but_itself(page: Page) -> None:
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object"}
    for name in LOADING:
        assert not list(page.attributes(name))
    assert not [a for a in page.elements if any(key.startswith("on") for key in a[1])]
    assert "url(" not in page.text
    assert "@import" not in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text


def test_text_of_the_cluster_stays_text(page: Page) -> None:
    assert "<script" not in page.text
    assert any(sample.MARKUP in text for text in page.texts)


def test_links_lead_somewhere(page: Page, directory: Path) -> None:
    ids = list(page.attributes("id"))
    assert len(ids) == len(set(ids)), "an id occurs twice"
    for target in page.attributes("href"):
        if target.startswith("#"):
            assert target[1:] in ids, target
        else:
            assert (directory / target).is_file(), target


def test_diagnoses_come_first_with_their_consequences(page: Page, results: Results) -> None:
    assert results.diagnoses
    ids = list(page.attributes("id"))
    assert ids.index("diagnoses") < ids.index("attention")
    for found in results.diagnoses:
        assert any(found.cause in text for text in page.texts)
        for each in found.consequences:
            assert f"#{each.id}" in set(page.attributes("href"))
        assert all(any(step in text for text in page.texts) for step in found.fix)


def test_every_verdict_is_behind_its_group(page: Page, results: Results) -> None:
    ids = set(page.attributes("id"))
    assert {result.id for result in results.requirements} <= ids
    badges = [a for tag, a in page.elements if tag == "b" and "badge" in (a.get("class") or "")]
    given = {(a.get("class") or "").split()[1] for a in badges}
    assert given >= {verdict.value for verdict in Verdict}
    text = " ".join(page.texts)
    assert "CONN-002 [ipv6], SVC-007 [ipv6]" in text
    for result in results.requirements:
        if result.reason:
            assert result.reason in page.texts
            assert result.repeat in page.texts


def test_cluster_is_named_with_what_its_nodes_run(results: Results) -> None:
    told = dict(view.about(results))
    assert told["Kubernetes"] == "v1.36.4"
    assert told["Calico"] == "v3.31.0"
    assert told["kube-proxy"] == "nftables; ipvs on worker2"
    assert told["kernel"] == "6.18.0; 7.2.1 on worker2"


def test_tallies_add_up(results: Results) -> None:
    for family in view.families(results):
        tally = view.tally(family, results.requirements)
        assert tally.total == sum(r.family == family for r in results.requirements)
        assert sum(count.share for count in tally.counts) == pytest.approx(100)
    six = view.tally("ipv6", results.requirements)
    assert (six.number(Verdict.FAIL), six.number(Verdict.BLOCKED)) == (2, 2)


def test_same_reason_is_one_trouble(results: Results) -> None:
    told = [(t.verdict, [name for name, _ in t.ids]) for t in view.troubles(results)]
    assert told == [
        (Verdict.FAIL, ["CONN-002"]),
        (Verdict.FAIL, ["SVC-007"]),
        (Verdict.INCONCLUSIVE, ["PODIP-007"]),
        (Verdict.BLOCKED, ["CONN-003", "CONN-004"]),
    ]


def test_matrices_show_both_families_and_their_difference(
    results: Results, directory: Path
) -> None:
    drawn = {d.id: d for d in matrices.drawings(render.attached(results, directory), sample.NODES)}
    assert [panel.title for panel in drawn["CONN-001"].panels] == ["IPv4", "IPv6", "Difference"]
    assert drawn["CONN-001"].good == drawn["CONN-001"].total == 36
    four, six, difference = drawn["CONN-002"].panels
    assert looks(four) == {Look.GOOD: 6, Look.ABSENT: 3}
    assert looks(six) == {Look.GOOD: 4, Look.BAD: 2, Look.ABSENT: 3}
    assert looks(difference) == {Look.SAME: 4, Look.BAD: 2, Look.ABSENT: 3}
    bad = [square for square in six.squares if square.look is Look.BAD]
    assert {square.sign for square in bad} == {"1/3"}
    assert "tcp: timeout, expected reached" in bad[0].tip
    assert {s.sign for s in difference.squares if s.look is Look.BAD} == {"6"}
    assert six.said == "IPv6: 4 of 6 relations as they should be"


def looks(panel: matrices.Panel) -> dict[Look, int]:
    found: dict[Look, int] = {}
    for square in panel.squares:
        found[square.look] = found.get(square.look, 0) + 1
    return found


def test_names_of_nodes_lose_what_all_share() -> None:
    names = ("dsc-a-control-plane", "dsc-a-worker", "dsc-a-worker2")
    assert list(short_names(names).values()) == ["control-plane", "worker", "worker2"]
    assert list(short_names(("a-b", "a")).values()) == ["a-b", "a"]
    assert list(short_names(("one",)).values()) == ["one"]


def test_timeline_keeps_time_and_order() -> None:
    figure = Timeline.model_validate(sample.timeline())
    drawn = lanes.timeline(figure)
    assert [path for path, _ in drawn.paths] == list(dict.fromkeys(x.path for x in figure.lanes))
    (_, views) = drawn.paths[1]
    assert [(v.name, v.lane.family) for v in views] == [
        ("udp one-way", "ipv4"), ("udp one-way", "ipv6"), ("new tcp", "ipv4"), ("new tcp", "ipv6"),
    ]  # fmt: skip
    (gap,) = views[1].gaps
    assert gap.left == pytest.approx(100 * 14.9 / 95, abs=0.01)
    assert gap.width == pytest.approx(100 * 5.4 / 95, abs=0.01)
    assert gap.tip == "gap of 5.4 s at 14.9 s, 108 lost: BGP session down (4)"
    assert drawn.clock == "clocks agree within 2 ms"
    assert [text for _, text in drawn.ticks] == ["0 s", "30 s", "60 s", "90 s"]
    by_row: dict[int, list[float]] = {}
    for event in drawn.events:
        by_row.setdefault(event.row, []).append(event.left)
    for positions in by_row.values():
        apart = [b - a for a, b in pairwise(positions)]
        assert all(each >= lanes.EVENTS_APART for each in apart)


def test_a_short_gap_in_a_long_time_is_seen() -> None:
    data = sample.timeline() | {"seconds": 3600.0}
    data["lanes"][0] |= {"end": 3600.0, "gaps": [{"start": 3599.99, "end": 3600.0}]}
    (_, views) = lanes.timeline(Timeline.model_validate(data)).paths[0]
    (gap,) = views[0].gaps
    assert gap.width >= lanes.NARROWEST
    assert gap.left + gap.width <= 100


def test_waits_show_their_share(results: Results) -> None:
    waits = lanes.waits(results)
    assert {each.share for each in waits.every} == {4.0, 73.0}
    assert waits.tightest[0].wait.what == "endpoints follow"
    assert all(each.tight for each in waits.tightest)


def test_comparison_tells_what_changed(directory: Path, results: Results, tmp_path: Path) -> None:
    older = tmp_path / "old"
    older.mkdir()
    old = sample.run(older, {("EGR-001", "ipv4"): ("fail", "was broken")})
    text = " ".join(Page(render.render(results, directory, old)).texts)
    assert "7 verdicts changed, 6 for the worse." in text
    assert "Verdicts: old and this run" in text


def test_a_run_without_anything_has_a_page(tmp_path: Path) -> None:
    results = sample.run(tmp_path, {})
    bare = results.model_copy(update={"cluster": None, "requirements": ()})
    Page(render.render(bare, tmp_path))
    assert "Nothing: no verdict is a fail" in render.render(results, tmp_path)


def test_evidence_that_is_gone_is_named_without_a_link(tmp_path: Path) -> None:
    results = sample.run(tmp_path)
    (tmp_path / "SVC-007-ipv6" / "failure.txt").unlink()
    page = Page(render.render(results, tmp_path))
    assert "SVC-007-ipv6/failure.txt" not in list(page.attributes("href"))
    assert "SVC-007-ipv6/failure.txt" in page.texts


def test_commands_draw_old_results(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    sample.run(tmp_path / "a", {})
    assert main(["html", str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "a" / "report.html")
    assert main(["diff", str(tmp_path / "a"), str(directory / "results.json"), "--html"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"page: {directory / 'report.html'}"
    assert "Before and after" in (directory / "report.html").read_text()
