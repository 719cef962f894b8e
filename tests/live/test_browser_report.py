"""A backtest's report in a real browser, straight from a file: nothing logged, nothing asked, readable in any light."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from apps.backtest.report import render
from tests.backtest.report_sample import sample

BACKGROUND = {"light": "rgb(244, 245, 246)", "dark": "rgb(20, 23, 27)"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(sample()), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_opens_without_a_word_in_the_console_and_asks_nobody(
    browser: Browser, file: Path, scheme: Literal["light", "dark"], width: int
) -> None:
    said: list[str] = []
    asked: list[str] = []
    with browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme) as context:
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        assert page.locator("svg[role=img]").count() == 4
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == BACKGROUND[scheme]
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("svg").first.evaluate("e => e.getBoundingClientRect().height") > 150
    assert said == []
    assert [url for url in asked if url != "data:,"] == [file.as_uri()]


def test_the_report_needs_no_script(browser: Browser, file: Path) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(file.as_uri())
        assert "Maximum drawdown" in page.locator("main").inner_text()
        assert page.locator("tbody tr", has_text="XRPUSDT").count() == 12
