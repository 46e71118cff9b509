"""The page in a real browser: light and dark, on a phone, on paper, by keyboard."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.html.render import write
from tests.reports import sample
from tests.reports.browser import Browser, Scheme, browser, chromium

WIDTHS = (360, 768, 1280)
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
TAB = ("Tab", 9)
ENTER = ("Enter", 13)

# Every text that can be seen, with its colours as they are composed; WCAG 2.2, success criterion
# 1.4.3: 4.5, or 3 for large text. https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
CONTRAST = """
(() => {
  const channels = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = c => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      if (e.tagName === 'g') {
        const rect = e.querySelector('rect');
        const fill = rect && getComputedStyle(rect).fill;
        if (fill && fill !== 'none') return channels(fill);
      }
      const colour = channels(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const found = [], seen = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let texts = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || ['STYLE', 'TITLE', 'title'].includes(element.tagName)) continue;
    if (!element.checkVisibility()) continue;
    texts += 1;
    const style = getComputedStyle(element), svg = element instanceof SVGElement;
    const ink = channels(svg ? style.fill : style.color).slice(0, 3), paper = behind(element);
    const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05), size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    const key = `${ink} on ${paper}`;
    if (ratio < needed && !seen.has(key)) {
      seen.add(key);
      found.push(`${ratio.toFixed(2)} for ${key}: ${element.className} ${text.slice(0, 40)}`);
    }
  }
  return {texts, found};
})()
"""
# What is wider than the screen, unless it scrolls in a frame of its own.
OVERFLOW = """
(() => {
  const width = document.documentElement.clientWidth;
  const scrolls = e => e && (['auto', 'scroll', 'hidden'].includes(getComputedStyle(e).overflowX)
    || scrolls(e.parentElement));
  return [...document.body.querySelectorAll('*')]
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > width + 0.5)
    .filter(e => !scrolls(e.parentElement) && !e.classList.contains('skip'))
    .map(e => `${e.tagName} ${e.className.baseVal ?? e.className}`);
})()
"""
OPEN_ALL = "document.querySelectorAll('details').forEach(d => d.open = true)"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything that a page can have."""
    old, new = tmp_path_factory.mktemp("old"), tmp_path_factory.mktemp("new")
    before = sample.run(old, {("EGR-001", "ipv4"): ("fail", "was broken")})
    results = sample.run(new).model_copy(update={"gate": sample.gate()})
    (new / "timeline.json").write_text(json.dumps(sample.timeline()))
    (new / "changes.json").write_text(json.dumps(sample.CHANGES))
    return write(results, new, before)


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if chromium() is None and os.geteuid() != 0:
        pytest.skip(
            "chromium was not found, and only root can install it: apt-get install chromium"
        )
    with browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_the_screen_and_can_be_read(
    chrome: Browser, page: Path, width: int, scheme: Scheme
) -> None:
    chrome.look(width, scheme)
    chrome.open(page)
    chrome.evaluate(OPEN_ALL)
    sizes = chrome.evaluate("[innerWidth, document.documentElement.scrollWidth]")
    assert sizes == [width, width], "the page scrolls sideways"
    assert chrome.evaluate(OVERFLOW) == []
    seen = chrome.evaluate(CONTRAST)
    assert seen["texts"] > 500
    assert seen["found"] == []


def test_contrast_oracle_sees_grey_on_grey(chrome: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<body style='background:#fff'><p style='color:#999'>pale</p>")
    chrome.look(800)
    chrome.open(bad)
    (found,) = chrome.evaluate(CONTRAST)["found"]
    assert found.startswith("2.85 for 153,153,153 on 255,255,255")


def test_width_oracle_sees_what_is_too_wide(chrome: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "wide.html"
    bad.write_text("<meta name=viewport content='width=device-width'><pre>" + "x" * 300 + "</pre>")
    chrome.look(360)
    chrome.open(bad)
    assert chrome.evaluate("document.documentElement.scrollWidth") > 360


@pytest.mark.parametrize("scheme", SCHEMES)
def test_schemes_look_different(chrome: Browser, page: Path, scheme: Scheme) -> None:
    chrome.look(1280, scheme)
    chrome.open(page)
    ground = chrome.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(ground.partition("(")[2].partition(",")[0])
    assert (red > 200) is (scheme == "light"), ground


def test_nothing_is_loaded_and_nothing_is_wrong(chrome: Browser, page: Path) -> None:
    chrome.look(1280)
    chrome.open(page)
    assert chrome.requests == [page.as_uri()]
    assert chrome.complaints == []


def test_details_open_by_keyboard(chrome: Browser, page: Path) -> None:
    chrome.look(1280)
    chrome.open(page)
    chrome.evaluate("document.querySelector('.group:not([open]) > summary').focus()")
    state = "document.activeElement.parentElement.open"
    focused = "document.activeElement.matches('summary:focus-visible')"
    assert chrome.evaluate(state) is False
    chrome.press(*ENTER, text="\r")
    assert chrome.evaluate(state) is True
    chrome.press(*TAB)
    assert chrome.evaluate(focused) is True, "the next stop is the first requirement inside"
    assert chrome.evaluate("document.activeElement.parentElement.className") == "row"


def test_links_reveal_what_is_closed(chrome: Browser, page: Path) -> None:
    chrome.look(1280)
    chrome.open(page)
    name = chrome.evaluate("document.querySelector('.group:not([open]) > .row').id")
    chrome.evaluate(f"location.hash = '#{name}'")
    assert chrome.evaluate(f"document.getElementById('{name}').parentElement.open") is True


def test_paper_is_white_and_shows_every_requirement(chrome: Browser, page: Path) -> None:
    chrome.look(760, "dark", media="print")
    chrome.open(page)
    assert chrome.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    rows: Any = chrome.evaluate(
        "[...document.querySelectorAll('.row > summary')]"
        ".map(summary => summary.getBoundingClientRect().height)"
    )
    assert len(rows) > 100
    assert min(rows) > 10, "a requirement of a closed group is not printed"
    assert chrome.evaluate(CONTRAST)["found"] == []


def test_it_prints(chrome: Browser, page: Path, tmp_path: Path) -> None:
    chrome.look(1280, "dark")
    chrome.open(page)
    chrome.pdf(tmp_path / "page.pdf")
    printed = (tmp_path / "page.pdf").read_bytes()
    assert printed.startswith(b"%PDF-")
    assert len(printed) > 50_000


def test_pictures_can_be_taken(chrome: Browser, page: Path, tmp_path: Path) -> None:
    sizes = []
    for width in WIDTHS:
        chrome.look(width)
        chrome.open(page)
        chrome.screenshot(tmp_path / f"{width}.png")
        sizes.append((tmp_path / f"{width}.png").stat().st_size)
    assert min(sizes) > 100_000, "a picture of nothing compresses well"
