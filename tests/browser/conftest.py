"""A headless Chromium, which the system brings, and pages of a small study to open in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService


MEND = "no Chromium: install it with `apt-get install -y chromium chromium-driver`"
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars")
PHONE, DESKTOP = 390, 1280


class Browser:
    """A page in Chromium: what a reader can do with it, and what the browser complains of."""

    def __init__(self, chrome: Chrome):
        self.chrome = chrome

    def open(self, page: Path | str, *, width: int = DESKTOP, scheme: str = "light") -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.chrome.get(page if isinstance(page, str) else page.as_uri())

    def run(self, script: str, *arguments):
        return self.chrome.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.chrome.get_log("browser")]

    def faults(self) -> list[str]:
        """What axe-core finds that is serious or critical."""
        axe = resources.files("axe_playwright_python") / "axe.min.js"
        self.run(axe.read_text(encoding="utf-8"))
        found = self.chrome.execute_async_script(
            "axe.run(document, {resultTypes: ['violations']}).then(arguments[0])"
        )
        return [
            f"{fault['id']} ({fault['impact']}): {fault['nodes'][0]['html'][:200]}"
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
        ]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.fail(MEND, pytrace=False)
    options = ChromeOptions()
    options.binary_location = binary
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=ChromeService(driver))
    chrome.set_script_timeout(30)
    yield Browser(chrome)
    chrome.quit()
