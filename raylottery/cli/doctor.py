"""`raylottery doctor`: is everything here that a sweep needs?"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from raylottery.cli import render
from raylottery.cli.options import JsonOption


def doctor(
    *,
    store: Annotated[str | None, Parameter(help="Also check every round of this store.")] = None,
    json: JsonOption = False,
) -> int:
    """Check versions, GPUs, Ray, data sets and a store."""
    from raylottery.driver.doctor import examine

    findings = examine(store)
    if json:
        render.json([finding._asdict() for finding in findings])
    else:
        render.findings(findings)
    return 0 if all(finding.sound for finding in findings) else 1
