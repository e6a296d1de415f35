"""A sweep whose rounds are put aside loses little to whatever cuts one off."""

from __future__ import annotations

import pytest

from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store, layout
from raylottery.store.soundness import check
from raylottery.trainers.classifier.loop import Learner
from tests.e2e.conftest import TINY


CHANGES = ("seeds=[0]", "axes={}", "retries=0", "checkpoint=10it")
ROUND = 2 * 35
"""Updates."""


@pytest.fixture
def cut(monkeypatch):
    """Cuts a sweep off after so many updates; counts them."""

    real = Learner.update

    def after(updates: int) -> list[int]:
        made: list[int] = []

        def update(self, *batch, **options):
            if len(made) == updates:
                raise ConnectionError("the machine is gone")
            made.append(1)
            real(self, *batch, **options)

        monkeypatch.setattr(Learner, "update", update)
        return made

    return after


@pytest.mark.parametrize(
    ("updates", "kept"),
    [(25, 20), (ROUND + 33, ROUND + 30), (3 * ROUND + 9, 3 * ROUND)],
    ids=["in the dense round", "in a pruned round", "before anything of a round is put aside"],
)
def test_a_round_goes_on_and_ends_in_the_undisturbed_table(
    tmp_path, run_inline, table, fixed, cut, updates, kept
):
    undisturbed = run_inline(tmp_path / "whole", *CHANGES)
    cut(updates)
    assert run_inline(tmp_path / "cut", *CHANGES).exit_code == 1
    made = cut(10**6)
    result = run_inline(tmp_path / "cut", *CHANGES)
    assert result.exit_code == undisturbed.exit_code == 0
    assert len(made) == 5 * ROUND - kept
    for name in ("rounds", "curves", "layers"):
        expected = table(tmp_path / "whole", name)
        assert fixed(table(tmp_path / "cut", name)) == fixed(expected), name
    assert not [*(tmp_path / "cut").rglob("aside*")], "what is done needs nothing put aside"


def test_a_checkpoint_trains_nothing_anew(tmp_path, run_inline):
    run_inline(tmp_path, *CHANGES[:-1])
    assert not run_inline(tmp_path, *CHANGES).ledger.trained


def test_what_was_put_aside_and_is_damaged_is_not_gone_on_from(tmp_path, run_inline, cut):
    [lineage] = lineages(parse_sweep(TINY, overrides=CHANGES))
    cut(25)
    run_inline(tmp_path, *CHANGES)
    aside = tmp_path / layout.aside(lineage.rounds[0].key)
    aside.write_bytes(aside.read_bytes()[:-3])
    assert [problem.path for problem in check(Store.existing(tmp_path))] == [
        layout.aside(lineage.rounds[0].key)
    ]
    made = cut(10**6)
    assert run_inline(tmp_path, *CHANGES).exit_code == 0
    assert len(made) == 5 * ROUND
    log = (tmp_path / layout.log("tiny", lineage.id)).read_text()
    assert "is damaged" in log
    assert "The round begins anew" in log
