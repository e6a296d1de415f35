from __future__ import annotations

import math
import re

import pandas as pd
import pytest
import scipy.stats

from raylottery.analysis import export, summary
from raylottery.errors import UsageError


SCOPES = {"prune.scope": ["global", "layerwise"]}


def known(values, seed, control, density):
    lead = 0.04 if values["prune.scope"] == "global" else 0.0
    branch = 0.12 if control != "ticket" else 0.0
    return 0.6 + (0.01 * seed**2) + 0.03 * math.log(density) + lead - branch


def test_each_arm_and_control_has_a_row_with_means_over_seeds(study):
    study.write(known, axes=SCOPES, controls=["random-ticket"])
    table = summary(study.load())
    assert table.densities == (1.0, 0.5, 0.2)
    assert [(row.arm_label, row.control, row.seeds) for row in table.rows] == [
        ("scope=global", "ticket", 3),
        ("scope=global", "random-ticket", 3),
        ("scope=layerwise", "ticket", 3),
        ("scope=layerwise", "random-ticket", 3),
    ]
    scores = [known({"prune.scope": "global"}, seed, "ticket", 0.5) for seed in range(3)]
    mean = sum(scores) / 3
    low, high = scipy.stats.t.interval(0.95, 2, mean, scipy.stats.sem(scores))
    cell = table.to_rows()[1]
    assert (cell["mean"], cell["low"], cell["high"]) == pytest.approx((mean, low, high), rel=1e-12)
    assert table.rows[1].cells[0] is None, "controls start at round 1"
    assert len(table.to_rows()) == 4 * 3 - 2


def test_seeds_still_on_their_way_are_left_out_of_a_density(study):
    def half(values, seed, control, density):
        return None if seed == 2 and density < 0.5 else known(values, seed, control, density)

    study.write(half, axes=SCOPES)
    table = summary(study.load())
    assert [(row["density"], row["n"]) for row in table.to_rows()[:3]] == [
        (1.0, 3),
        (0.5, 3),
        (0.2, 2),
    ]
    assert table.rows[0].seeds == 3


def test_an_arm_that_two_sweeps_name_otherwise_is_one_arm(study):
    study.write(known, axes=SCOPES, seeds=(0, 1), name="one")
    scope = {"prune.scope": "global"}
    study.write(lambda _, *rest: known(scope, *rest), spec=scope, seeds=(2, 3), name="other")
    table = summary(study.load("one", "other"))
    assert [(row.arm_label, row.seeds) for row in table.rows] == [
        ("scope=global", 4), ("scope=layerwise", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_export_holds_the_rounds_and_reads_back_the_same(study, tmp_path, suffix):
    study.write(
        known, axes=SCOPES, controls=["random-ticket"], at=pd.Timestamp("2026-01-02 03:04:05Z")
    )
    frame = study.load()
    path = export(frame, tmp_path / f"rounds of 'it'{suffix}")
    if suffix == ".csv":
        back = pd.read_csv(path, dtype={"lineage": "str", "arm": "str"}, parse_dates=["at"])
    else:
        back = pd.read_parquet(path)
    pd.testing.assert_frame_equal(
        back.drop(columns="at"), frame.rounds.drop(columns="at"), check_exact=True
    )
    assert (back["at"] == frame.rounds["at"]).all()


def test_latex_is_a_tabular_of_the_summary(study, tmp_path):
    study.write(known, axes={"prune.scope": ["global", "a_b"]}, controls=["random-ticket"])
    text = export(study.load(), tmp_path / "table.tex").read_text(encoding="utf-8")
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert body[0] == r"Arm & Control & Seeds & 100 \% & 50 \% & 20 \% \\"
    assert body[1].startswith(r"scope=a\_b & ticket & 3 & $61.7 \pm 5.2$ & ")
    assert body[2].startswith(r"scope=a\_b & random-ticket & 3 & -- & ")
    assert [line.count("&") for line in body] == [5] * 5
    assert text.count(r"\begin{tabular}{llrrrr}") == text.count(r"\end{tabular}") == 1
    assert not re.search(r"(?<!\\)[_#]", text)


@pytest.mark.parametrize("name", ["table.xlsx", "table", "table.CSV.gz"])
def test_an_unknown_suffix_names_the_valid_ones(study, tmp_path, name):
    study.write(known, axes=SCOPES)
    with pytest.raises(UsageError, match=r"Valid: \.csv, \.parquet, \.tex"):
        export(study.load(), tmp_path / name)
    assert list(tmp_path.glob("table*")) == []


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.tex"])
def test_a_folder_that_is_not_there_is_refused(study, tmp_path, name):
    study.write(known, axes=SCOPES)
    with pytest.raises(UsageError, match=r"cannot write .*folder that exists"):
        export(study.load(), tmp_path / "absent" / name)
