"""The page of `status --serve` in a real browser, while rounds come into the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import pytest
from selenium.webdriver.common.by import By

from raylottery.cli import serve
from raylottery.cli.progress import Diary
from raylottery.driver.gather import Gatherer
from raylottery.driver.live import Live, Pulse
from raylottery.driver.plan import make_plan
from raylottery.driver.run import run
from raylottery.driver.stored import standing
from raylottery.spec import parse_sweep
from raylottery.store import Store, layout
from tests.browser.conftest import DESKTOP, PHONE, Browser
from tests.browser.test_report import shown
from tests.e2e.conftest import TINY


pytestmark = pytest.mark.browser

DENSE = ("prune.rounds=1", "controls=[]")


class Sweep:
    """A sweep that is trained step by step, and its page."""

    def __init__(self, store: Store):
        self.store = store
        self.server = serve.listening(
            "tiny", store.files, lambda: (standing("tiny", store), ()), 0
        )
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"

    def describe(self) -> None:
        Gatherer(make_plan(parse_sweep(TINY), self.store), self.store).open()

    def train(self, *changes: str) -> None:
        sweep = parse_sweep(TINY, overrides=changes)
        run(sweep, self.store, Diary(say=lambda line: None), inline=True)

    @contextmanager
    def under_way(self) -> Generator[None]:
        """What a run shows of itself while it lives."""
        with Pulse(
            self.store.files,
            Live.this_process("tiny", "0123456789ab", "a local Ray"),
            lambda: 1,
            lambda how: None,
        ):
            yield


@pytest.fixture
def sweep(tmp_path, monkeypatch) -> Iterator[Sweep]:
    monkeypatch.setattr(serve, "LOOK_S", 0.0)
    monkeypatch.setattr(serve, "SHARE", float("inf"))
    found = Sweep(Store.open(tmp_path / "store"))
    thread = threading.Thread(target=found.server.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


def until(browser: Browser, true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits for what the page will show; coming back to a tab has it ask at once."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, shown(browser, ".now, h1")
        browser.run("document.dispatchEvent(new Event('visibilitychange'))")
        time.sleep(0.1)


def strip(browser: Browser) -> str:
    return " ".join(" ".join(shown(browser, ".now p, .now li")).split())


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "light"), (DESKTOP, "dark")])
def test_it_fills_itself_while_a_sweep_runs(browser, sweep, width, scheme):
    sweep.describe()
    browser.open(sweep.url, width=width, scheme=scheme)
    until(browser, lambda: "0 of 20 rounds" in strip(browser))
    assert strip(browser).startswith("Nothing runs 0 of 20 rounds looked at ")
    assert shown(browser, "h1") == ["No round of tiny is finished yet."]
    assert browser.faults() == []

    sweep.train(*DENSE)
    with sweep.under_way():
        until(browser, lambda: "Running 8 of 8 rounds" in strip(browser))
        assert "a local Ray on " in strip(browser)
        assert browser.faults() == []
    until(browser, lambda: len(shown(browser, "#lineage-list details")) == 4)
    before = shown(browser, "h1")
    sweep.train()
    until(browser, lambda: "Finished 20 of 20 rounds" in strip(browser))
    until(browser, lambda: "5 of 5 rounds" in " ".join(shown(browser, "summary")))
    assert shown(browser, "h1") != before
    assert browser.faults() == []
    assert browser.complaints() == []
    assert browser.run("return document.documentElement.scrollWidth") == width


def test_a_reader_loses_nothing_by_new_results(browser, sweep):
    sweep.train(*DENSE)
    browser.open(sweep.url)
    until(browser, lambda: "8 of 8 rounds" in strip(browser))
    find = browser.chrome.find_element
    find(By.ID, "theme").click()
    find(By.CSS_SELECTOR, "[data-toggle]").click()
    find(By.CSS_SELECTOR, "#arm-table thead button").click()
    find(By.CSS_SELECTOR, "#arm-table thead button").click()
    find(By.CSS_SELECTOR, "[data-filter=lineage-list] input").send_keys("layerwise")
    lineage = next(
        one for one in browser.chrome.find_elements(By.TAG_NAME, "summary") if one.is_displayed()
    )
    lineage.click()
    find(By.CSS_SELECTOR, "[data-filter=arm-table] input").send_keys("scope")
    browser.run("document.querySelector('#lineages').scrollIntoView({behavior: 'instant'});")
    browser.run("scrollBy({top: 40, behavior: 'instant'})")
    script = """
        const text = (one) => document.querySelector(one);
        return {
          theme: [document.documentElement.dataset.theme, text("#theme").ariaPressed],
          off: text("[data-toggle]:not(:checked)")?.dataset.toggle,
          drawn: document.querySelectorAll(".plot .off").length > 0,
          order: text("#arm-table th").ariaSort,
          filters: [...document.querySelectorAll("input[type=search]")].map((one) => one.value),
          left: [...document.querySelectorAll("#lineage-list details:not([hidden])")].length,
          open: text("details[open] p code").textContent,
          focus: document.activeElement.closest("[data-filter]").dataset.filter,
          place: text("#lineages").getBoundingClientRect().top,
        }"""
    before = browser.run(script)
    assert before["off"]
    assert before["order"] == "descending"
    assert (before["left"], before["focus"]) == (2, "arm-table")

    sweep.train()
    until(browser, lambda: "5 of 5 rounds" in " ".join(shown(browser, "summary")))
    after = browser.run(script)
    assert after.pop("place") == pytest.approx(before.pop("place"), abs=1)
    assert after == before
    find(By.ID, "theme").click()
    assert browser.run("return document.documentElement.dataset.theme") == "light"
    assert browser.complaints() == []


def test_what_is_being_read_is_not_taken_away(browser, sweep):
    sweep.train(*DENSE)
    browser.open(sweep.url)
    until(browser, lambda: "8 of 8 rounds" in strip(browser))
    browser.run("getSelection().selectAllChildren(document.querySelector('h1'))")
    chosen = browser.run("return getSelection().toString()")
    sweep.train()
    until(browser, lambda: "There are new results." in strip(browser))
    assert browser.run("return getSelection().toString()") == chosen
    browser.run("getSelection().removeAllRanges()")
    until(browser, lambda: "5 of 5 rounds" in " ".join(shown(browser, "summary")))
    until(browser, lambda: "There are new results." not in strip(browser))


def test_trouble_shows_and_goes_and_so_does_the_server(browser, sweep, tmp_path):
    sweep.train(*DENSE)
    browser.open(sweep.url)
    until(browser, lambda: "Finished 8 of 8 rounds" in strip(browser))
    table = tmp_path / "store" / layout.table("tiny", "rounds")
    data = table.read_bytes()
    table.write_bytes(b"junk")
    until(browser, lambda: "rounds.parquet" in strip(browser))
    assert browser.faults() == []
    assert len(shown(browser, "#lineage-list details")) == 4
    table.write_bytes(data)
    until(browser, lambda: "rounds.parquet" not in strip(browser))
    assert browser.complaints() == []
    sweep.server.shutdown()
    sweep.server.server_close()
    until(browser, lambda: strip(browser).startswith("Nobody answers"))
    assert browser.faults() == []
    assert all("CONNECTION_REFUSED" in line for line in browser.complaints())
