"""The page in a real browser: it works by mouse and keyboard, and everybody can read it."""

from __future__ import annotations

import base64
import struct
from pathlib import Path

import pandas as pd
import pytest
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

from raylottery.analysis.report import report
from tests.browser.conftest import DESKTOP, PHONE, Browser
from tests.unit.analysis.conftest import Study


pytestmark = pytest.mark.browser

ARMS = {"prune.scope": ["global", "layerwise"], "rewind.weights": ["init", "1ep"]}


def score(values, seed, control, density):
    """A study in which every table and most figures have something to show; one seed is late."""
    if seed == 2 and density < 0.2:
        return None
    lead = 0.04 if values["prune.scope"] == "global" else 0.0
    loss = 0.1 if control != "ticket" else 0.0
    return 0.8 + lead * (1 - density) + 0.005 * seed * density - loss - 0.01 * (seed % 2) * lead


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    study = Study(folder)
    study.write(
        score,
        axes=ARMS,
        controls=["random-ticket"],
        spec={"controls": ["random-ticket"], "prune.rounds": 3},
        weight_source="init",
        stopped_by="length",
        seconds=2.0,
    )
    lineages = study.load().lineages
    late = lineages["lineage"][lineages["seed"] == 2]
    failures = {
        "sweep": "study", "lineage": late, "control": "ticket", "round": 3, "attempt": 2,
        "error": "TrainingError", "first_line": "<b>the loss</b> is no number", "log": "a.log",
    }  # fmt: skip
    study.put("study", "failures", pd.DataFrame(failures))
    file = folder / "report.html"
    file.write_text(report(study.load()), encoding="utf-8")
    return file


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    browser.open(page)
    return browser


def shown(browser: Browser, selector: str) -> list[str]:
    """The text of all elements that can be seen."""
    script = (
        "return [...document.querySelectorAll(arguments[0])]"
        ".filter(one => one.checkVisibility() && one.getClientRects().length)"
        ".map(one => one.textContent.trim())"
    )
    return browser.run(script, selector)


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_a_complaint_or_a_fault(browser, page, width, scheme):
    browser.open(page, width=width, scheme=scheme)
    assert browser.faults() == []
    assert browser.complaints() == []
    assert browser.run("return performance.getEntriesByType('resource').length") == 0
    assert browser.run("return document.documentElement.scrollWidth") == width


def test_what_is_opened_has_no_fault_either(opened):
    opened.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert opened.faults() == []


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_the_screen_begins_with_the_answer_and_its_figure(browser, page, width):
    browser.open(page, width=width)
    script = (
        "return ['h1', '.plot svg'].map(one => document.querySelector(one))"
        ".map(one => one.getBoundingClientRect()).map(place => [place.top, place.width])"
    )
    (headline, _), (figure, drawn) = browser.run(script)
    assert 0 < headline < figure < 700
    assert drawn >= 320


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_a_screenshot_is_as_wide_as_the_screen_and_not_blank(browser, page, width):
    browser.open(page, width=width)
    picture = base64.b64decode(browser.chrome.get_screenshot_as_base64())
    assert struct.unpack(">I", picture[16:20]) == (width,)
    assert len(picture) > 10_000


def test_a_column_sorts_both_ways_and_says_so(opened):
    column = "#arm-table thead th:last-child"
    button = opened.chrome.find_element(By.CSS_SELECTOR, f"{column} button")

    def values() -> list[float]:
        cells = shown(opened, "#arm-table tbody td:last-child")
        return [float(cell.split()[0]) for cell in cells if cell]

    def said() -> str | None:
        return opened.run(f"return document.querySelector('{column}').ariaSort")

    assert said() is None
    button.click()
    assert (said(), values()) == ("descending", sorted(values(), reverse=True))
    button.click()
    assert (said(), values()) == ("ascending", sorted(values()))
    opened.chrome.find_element(By.CSS_SELECTOR, "#arm-table thead button").click()
    assert said() is None


@pytest.mark.parametrize(
    ("table", "rows", "words", "left"),
    [
        ("arm-table", "#arm-table tbody tr", "layerwise 1ep", 2),
        ("arm-table", "#arm-table tbody tr", "nothing has this", 0),
        ("lineage-list", "#lineage-list details", "GLOBAL seed", 6),
    ],
)
def test_a_filter_leaves_what_has_all_its_words_and_counts(opened, table, rows, words, left):
    everything = len(shown(opened, rows))
    box = opened.chrome.find_element(By.CSS_SELECTOR, f"[data-filter={table}] input")
    box.send_keys(words)
    assert len(shown(opened, rows)) == left
    status = shown(opened, f"[data-filter={table}] [role=status]")
    assert status == [f"{left} of {everything} shown"]
    box.clear()
    box.send_keys(" ")
    assert len(shown(opened, rows)) == everything


def test_an_arm_goes_from_all_figures_at_once_and_comes_back(opened):
    box = opened.chrome.find_element(By.CSS_SELECTOR, "[data-toggle]")
    arm = box.get_attribute("data-toggle")
    artists = f"[data-arm='{arm}']"
    figures = (
        f"return new Set([...document.querySelectorAll(`{artists}`)]"
        ".map(one => one.closest('figure'))).size"
    )
    assert opened.run(figures) > 1
    before = len(shown(opened, artists))
    box.click()
    assert shown(opened, artists) == []
    box.click()
    assert len(shown(opened, artists)) == before


def test_a_value_shows_under_the_pointer_and_goes(opened):
    point = opened.run(
        "const plot = document.querySelector('.plot'); plot.scrollIntoView({block: 'center'});"
        "const one = JSON.parse(plot.querySelector('script').textContent)[1];"
        "const svg = plot.querySelector('svg');"
        "const at = new DOMPoint(one.x, one.y).matrixTransform(svg.getScreenCTM());"
        "return [Math.round(at.x), Math.round(at.y), one.text]"
    )
    mouse = ActionChains(opened.chrome, duration=0)
    mouse.w3c_actions.pointer_action.move_to_location(*point[:2])
    mouse.perform()
    assert shown(opened, ".value") == [point[2]]
    assert " % at " in point[2]
    mouse = ActionChains(opened.chrome, duration=0)
    mouse.w3c_actions.pointer_action.move_to_location(2, 2)
    mouse.perform()
    assert shown(opened, ".value") == []


def test_values_are_read_by_the_arrow_keys(opened):
    opened.run("document.querySelector('.plot').focus()")
    keys = ActionChains(opened.chrome)
    keys.send_keys(Keys.ARROW_RIGHT).send_keys(Keys.ARROW_RIGHT).perform()
    second = opened.run(
        "return JSON.parse(document.querySelector('.plot script').textContent)[1].text"
    )
    assert shown(opened, ".value") == [second]
    ActionChains(opened.chrome).send_keys(Keys.ESCAPE).perform()
    assert shown(opened, ".value") == []


def test_the_keyboard_reaches_everything(opened):
    script = (
        "return [...document.querySelectorAll('button, input, summary, .plot, .scroll, a[href]')]"
        ".filter(one => one.checkVisibility()).length"
    )
    wanted = opened.run(script)
    reached = 0
    opened.run("window.seen = new Set()")
    while opened.run(
        "const one = document.activeElement; if (window.seen.has(one)) return false;"
        "window.seen.add(one); return true"
    ):
        reached += 1
        ActionChains(opened.chrome).send_keys(Keys.TAB).perform()
        assert reached < 500
    assert reached - 1 == wanted  # the body, where it began


def test_enter_opens_the_rounds_of_a_lineage(opened):
    opened.run("document.querySelector('summary').focus()")
    assert shown(opened, "details[open] tbody tr") == []
    ActionChains(opened.chrome).send_keys(Keys.ENTER).perform()
    assert len(shown(opened, "details[open] tbody tr")) == 7


def test_the_button_turns_the_page_dark_and_light(opened):
    def paper() -> str:
        return opened.run("return getComputedStyle(document.body).backgroundColor")

    button = opened.chrome.find_element(By.ID, "theme")
    light = paper()
    button.click()
    assert (button.get_attribute("aria-pressed"), paper() == light) == ("true", False)
    assert opened.faults() == []
    button.click()
    assert (button.get_attribute("aria-pressed"), paper()) == ("false", light)


def test_figures_wear_the_ink_of_the_page(browser, page):
    inks = []
    for scheme in ("light", "dark"):
        browser.open(page, scheme=scheme)
        inks.append(
            browser.run(
                "return ['.plot text', 'body'].map(one => getComputedStyle("
                "document.querySelector(one))).map((one, i) => i ? one.color : one.fill)"
            )
        )
    assert all(text == body for text, body in inks)
    assert inks[0] != inks[1]


def test_paper_has_no_controls_and_is_light(browser, page):
    browser.open(page, scheme="dark")
    features = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    assert shown(browser, "#theme, .filter, fieldset, .skip") == []
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    printed = browser.chrome.execute_cdp_cmd("Page.printToPDF", {})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    browser.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
