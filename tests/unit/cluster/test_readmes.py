"""What the recipes' pages tell people to type, against what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raylottery.cli import COMMANDS
from tests.conftest import ROOT


PAGES = sorted((ROOT / "cluster").rglob("*.md"))


def commands(page: Path) -> list[str]:
    """The lines of a page's blocks, continued ones joined."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return "".join(blocks).replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_options_and_files_are_there(page, raylottery):
    for line in commands(page):
        words = line.split("#")[0].split()
        for word in words:
            if word.startswith(("cluster/", "sweeps/")):
                assert (ROOT / word).exists(), line
        if words[:1] == ["raylottery"]:
            assert words[1] in COMMANDS, line
            known = raylottery(words[1], "--help").stdout
            for word in words[2:]:
                assert not word.startswith("--") or word in known, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_says_what_is_not_verified_and_opens_nothing(page):
    text = page.read_text()
    assert "Not verified" in text
    assert "0.0.0.0" not in text


def test_every_recipe_has_a_page():
    places = {
        "local": "local/README.md",
        "kuberay": "kuberay/README.md",
        "Dockerfile": "README.md",
    }
    for path in (ROOT / "cluster").iterdir():
        page = places.get(path.name.removesuffix(".dockerignore"), f"{path.stem}.md")
        assert (ROOT / "cluster" / page).exists(), path


SECRETS = r"AKIA[0-9A-Z]{8}|(?i:secret_access_key|password|private key)|RAY_AUTH_TOKEN=(?!\$\()"


def test_no_credential_is_in_a_recipe():
    assert re.search(SECRETS, "export RAY_AUTH_TOKEN=0123456789abcdef")
    assert re.search(SECRETS, "AWS_SECRET_ACCESS_KEY: abc")
    for path in (ROOT / "cluster").rglob("*"):
        if path.is_file():
            assert not re.search(SECRETS, path.read_text()), path
