"""The report of one sweep while it may still run: made anew when the sweep's tables changed.

It is the page that `report` makes, with a strip above it for what the tables do not know, and a
script that keeps both up to date and asks nobody but the server it came from. A reader loses
nothing by that: what was sorted, filtered, opened, hidden or scrolled to is so again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from raylottery.analysis.frame import Frame
from raylottery.analysis.report import gather, page, spoken
from raylottery.analysis.report.html import laid_out, part
from raylottery.analysis.report.missing import LATE, has
from raylottery.errors import RaylotteryError
from raylottery.store import layout
from raylottery.store.files import Files


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page as it was made last."""

    html: str
    version: str
    """another one if it says anything else"""
    tables: str
    """what it was made of: another one if a table changed"""
    trouble: str = ""
    """why it could not be made anew"""


def live_page(name: str, files: Files, before: Page | None) -> Page:
    """The page as the store has the sweep now; the one before if nothing changed, or if it fails.

    Whatever is wrong with a table may be mended by the run that writes it, so it is told, and
    tried again.
    """
    try:
        tables = stamp(name, files)
        if before is not None and before.tables == tables:
            return replace(before, trouble="")
        return _made(name, files, tables)
    except Exception as error:  # noqa: BLE001 (told on the page)
        last = before or _empty(
            name,
            "The report cannot be made.",
            "What is wrong is said above. It is tried again every few seconds.",
        )
        return replace(last, trouble=told(error))


def stamp(name: str, files: Files) -> str:
    """A digest of a sweep's tables, of what is long only where it may have changed."""
    tables = ["lineages", "rounds", *LATE]
    if files.list(layout.runs(name)):  # no run that lives has written these
        tables = [table for table in tables if table not in LATE]
    paths = [layout.provenance(name), *(layout.table(name, table) for table in tables)]
    return _digest(*(_bytes(path, files) for path in paths))


def told(error: Exception) -> str:
    """An error in a line: its own words are enough where it was foreseen."""
    foreseen = isinstance(error, RaylotteryError | OSError)
    return str(error) if foreseen else f"{type(error).__name__}: {error}"


def _made(name: str, files: Files, tables: str) -> Page:
    if not has(Frame(names=(name,), files=files), name, "rounds"):
        return _empty(
            name,
            f"No round of {name} is finished yet.",
            "The report shows here when there is one.",
            tables,
        )
    found = gather(Frame(names=(name,), files=files))
    version = _digest(page(found).encode())
    return Page(html=_laid_out(version, **spoken(found)), version=version, tables=tables)


def _empty(name: str, headline: str, details: str, tables: str = "") -> Page:
    """A page without a report, which one takes the place of later."""
    version = _digest(headline.encode())
    html = _laid_out(version, report=None, title=name, headline=headline, details=details)
    return Page(html=html, version=version, tables=tables)


def _laid_out(version: str, **values: object) -> str:
    # The report's own script is called again for each report that takes the place of another.
    script = f'"use strict";\nconst behave = () => {{\n{part("script.js")}}};\n{part("live.js")}'
    style = part("style.css") + part("live.css")
    return laid_out("live.html", style=style, script=script, version=version, **values)


def _bytes(path: str, files: Files) -> bytes:
    try:
        return files.read(path)
    except FileNotFoundError:
        return b""


def _digest(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for one in parts:
        whole.update(hashlib.sha256(one).digest())
    return whole.hexdigest()[:32]
