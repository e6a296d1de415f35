"""The studies in sweeps/, and the short forms that their headers name."""

from __future__ import annotations

import shlex

from tests.conftest import ROOT


SHIPPED = sorted((ROOT / "sweeps").glob("*.yaml"))
CLASSIFIERS = [path for path in SHIPPED if "kind: classifier" in path.read_text()]
AGENTS = [path for path in SHIPPED if "kind: dqn" in path.read_text()]
WITHOUT_RAY = [
    path
    for path in SHIPPED
    if "kind: dqn" not in path.read_text() or "engine: compiled" in path.read_text()
]
"""Those whose engine stands on no Ray."""
SHORT_FORM = "# short form: "


def short_form(text: str) -> list[str]:
    """The overrides that a sweep's header names."""
    [line] = [line for line in text.splitlines() if line.startswith(SHORT_FORM)]
    words = shlex.split(line.removeprefix(SHORT_FORM))
    assert words[::2] == ["--set"] * (len(words) // 2)
    return words[1::2]
