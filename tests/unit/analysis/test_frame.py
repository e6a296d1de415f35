from __future__ import annotations

import pandas as pd
import pytest

from raylottery.analysis import compare, load
from raylottery.errors import NotFoundError, NothingYet, StoreError, UsageError


def flat(values, seed, control, density):
    return 0.5 + seed / 100


def test_axes_are_columns_of_every_table(study):
    study.write(flat, axes={"prune.scope": ["global", "layerwise"], "prune.fraction": [0.2, 0.5]})
    frame = study.load()
    assert list(frame.lineages.columns[-2:]) == ["prune.scope", "prune.fraction"]
    assert frame.rounds["prune.fraction"].dtype == "float64"
    assert len(frame.rounds) == 2 * 2 * 3 * 4
    counts = frame.rounds.groupby(["prune.scope", "prune.fraction"]).size()
    assert counts.tolist() == [12, 12, 12, 12]
    label = frame.rounds["arm_label"]
    assert label.str.contains("scope=global").equals(frame.rounds["prune.scope"] == "global")


def test_curves_layers_and_failures_are_joined_too(study):
    study.write(flat, axes={"prune.scope": ["global", "layerwise"]})
    lineages = study.load().lineages
    ids = lineages[["sweep", "lineage"]]
    for table in ("curves", "layers", "failures"):
        study.put("study", table, ids.assign(value=1.5))
        joined = getattr(study.load(), table)
        assert joined["prune.scope"].tolist() == lineages["prune.scope"].tolist()
        assert joined["value"].tolist() == [1.5] * 6


def test_a_sweep_that_does_not_vary_an_axis_has_its_specs_value(study):
    study.write(flat, name="one", axes={"prune.scope": ["global", "layerwise"]})
    study.write(flat, name="two", axes={"trainer.lr": [0.1]}, spec={"prune.scope": "erk"})
    rounds = study.load("one", "two").rounds
    assert set(rounds.loc[rounds["sweep"] == "two", "prune.scope"]) == {"erk"}
    assert set(rounds.loc[rounds["sweep"] == "one", "trainer.lr"]) == {0.002}
    assert rounds["trainer.lr"].dtype == "float64"


def test_an_axis_of_mixed_kinds_is_text_and_nothing_is_null(study):
    study.write(flat, axes={"rewind.clock": [None, "same"], "trainer.hidden": [[64, 64], 8]})
    lineages = study.load().lineages
    assert (
        lineages["trainer.hidden"].tolist()
        == ["[64, 64]"] * 3 + ["8"] * 3 + ["[64, 64]"] * 3 + ["8"] * 3
    )
    assert lineages["rewind.clock"].isna().tolist() == [True] * 6 + [False] * 6


def test_nothing_is_read_before_it_is_asked_for(study):
    study.write(flat)
    frame = study.load()
    for table in ("rounds", "lineages"):
        (study.store / "sweeps" / "study" / f"{table}.parquet").write_bytes(b"")
    told = r"(lineages|rounds).parquet is damaged: it cannot be read.*doctor --repair"
    with pytest.raises(StoreError, match=told):
        _ = frame.rounds


def test_a_sweep_that_has_just_started_is_not_called_unknown(study):
    study.write(flat)
    (study.store / "sweeps" / "study" / "rounds.parquet").unlink()
    with pytest.raises(NotFoundError, match=r"'study' has no finished rounds yet"):
        study.load()


def test_an_unknown_sweep_is_not_found_and_the_nearest_is_named(study):
    study.write(flat, name="quickstart")
    with pytest.raises(NotFoundError, match=r"no sweep 'quikstart'.*Did you mean 'quickstart'\?"):
        study.load("quikstart")


def test_a_store_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match="no store at"):
        load("study", store=tmp_path / "absent")


def test_a_name_that_leads_out_of_the_store_is_refused(study):
    study.write(flat)
    with pytest.raises(UsageError, match="cannot be the name of a sweep"):
        study.load("../study")


def test_no_name_is_refused():
    with pytest.raises(UsageError, match="Name one or several"):
        load()


def test_the_store_comes_from_the_environment(study, monkeypatch):
    study.write(flat)
    monkeypatch.setenv("RAYLOTTERY_STORE", str(study.store))
    assert len(load("study").rounds) == 12


def test_a_table_that_is_not_written_yet_says_when_it_will_be(study):
    study.write(flat)
    with pytest.raises(NotFoundError, match=r"'study' has no curves.parquet yet.*raylottery run"):
        _ = study.load().curves


def test_an_analysis_is_read_with_the_axes(study):
    study.write(flat, axes={"prune.scope": ["global", "layerwise"]})
    lineages = study.load().lineages
    (study.store / "sweeps/study/analyses").mkdir()
    rows = lineages[["sweep", "lineage"]].assign(barrier=0.5)
    study.put("study", "analyses/connectivity", rows)
    found = study.load().analysis("connectivity")
    assert found["prune.scope"].tolist() == lineages["prune.scope"].tolist()
    assert found["barrier"].tolist() == [0.5] * 6


def test_an_analysis_that_was_not_made_says_how_to_make_it(study):
    study.write(flat)
    with pytest.raises(NotFoundError, match="has not been analysed yet: raylottery analyse study"):
        study.load().analysis("overlap")


def test_an_unknown_analysis_is_refused_with_the_nearest(study):
    study.write(flat)
    with pytest.raises(UsageError, match=r"analysis: 'dormamt'. Did you mean 'dormant'\?"):
        study.load().analysis("dormamt")


def test_sweeps_whose_columns_clash_are_refused(study):
    study.write(flat, name="old", seed_note="1")
    study.write(flat, name="new", seed_note=1)
    with pytest.raises(UsageError, match="old and new have columns of different types"):
        _ = study.load("old", "new").rounds


def test_a_column_that_an_older_sweep_lacks_is_null_there(study):
    study.write(flat, name="old")
    study.write(flat, name="new", probe=2.5)
    rounds = study.load("old", "new").rounds
    assert rounds["probe"].isna().tolist() == [True] * 12 + [False] * 12


def test_a_sweep_without_finished_rounds_has_nothing_to_compare(study):
    study.write(flat, axes={"prune.scope": ["global", "layerwise"]})
    rounds = study.load().rounds.drop(columns="prune.scope")
    study.put("study", "rounds", rounds.iloc[:0])
    assert isinstance(study.load().rounds, pd.DataFrame)
    with pytest.raises(NothingYet, match=r"no finished round of study has a score") as refused:
        compare(study.load(), "prune.scope")
    assert refused.value.exit_code == 3
