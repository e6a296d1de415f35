"""Probes of finished sweeps: what they write, what that says, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from raylottery.analysis import load
from raylottery.cli import main
from raylottery.cli.progress import Diary
from raylottery.driver.prune_store import find_waste
from raylottery.driver.run import run
from raylottery.probes import PROBES, analyse
from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store
from raylottery.store.schemas import ANALYSES
from raylottery.store.tables import read_table
from raylottery.tickets import harvest
from tests.e2e.conftest import TINY


FULL = TINY.replace(
    "[random-ticket]",
    "[random-ticket, small-dense, shuffled-pixels, {kind: replicate, draws: 2, at: [2]}]",
)


def trained(text: str, root: Path, *changes: str):
    sweep = parse_sweep(text, overrides=changes)
    result = run(sweep, Store.open(str(root)), Diary(say=lambda line: None), inline=True)
    assert result.exit_code == 0, result.failures
    return sweep


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A sweep of two arms and two seeds with several controls, in a store."""
    root = tmp_path_factory.mktemp("probed")
    return root, trained(FULL, root)


@pytest.fixture
def probe(finished, capsys):
    """Analyses the finished sweep by the command; the table."""
    root, _ = finished

    def call(kind: str) -> pd.DataFrame:
        assert main(["analyse", "tiny", kind, "--store", str(root)]) == 0
        return load("tiny", store=root).analysis(kind)

    return call


def ids(table: pd.DataFrame) -> set[tuple]:
    return set(table[["lineage", "control", "draw", "round"]].itertuples(index=False, name=None))


def rounds_of(root, *without: str) -> set[tuple]:
    rounds = load("tiny", store=root).rounds
    return ids(rounds[~rounds["control"].isin(without)])


@pytest.mark.parametrize("kind", PROBES)
def test_a_table_has_the_columns_of_its_kind_and_the_same_bytes_again(finished, probe, kind):
    root, sweep = finished
    table = probe(kind)
    path = root / "sweeps/tiny/analyses" / f"{kind}.parquet"
    assert pq.read_schema(path).names == ANALYSES[kind].names
    assert [name for name in table if name not in ANALYSES[kind].names] == ["prune.scope"]
    assert len(table)
    before = path.stat().st_mtime_ns, path.read_bytes()
    assert analyse(kind, sweep, Store.open(str(root))).missing == 0
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    assert find_waste(Store.open(str(root))).unknown == []


def test_every_kind_of_table_has_a_probe():
    assert list(PROBES) == list(ANALYSES)


def test_connectivity_has_a_row_for_each_point_of_each_pair(finished, probe):
    root, _ = finished
    table = probe("connectivity")
    per_pair = table.groupby(["lineage", "round", "other"])
    assert set(per_pair.size()) == {30}
    assert per_pair["alpha"].apply(list).map(lambda a: (a == sorted(a), a[0], a[-1])).tolist() == [
        (True, 0.0, 1.0)
    ] * len(per_pair)
    whole = per_pair["error"].agg(["first", "last", "max"])
    barrier = whole["max"] - (whole["first"] + whole["last"]) / 2
    assert (per_pair["barrier"].first() == barrier).all()
    assert set(table["batch_norm"]) == {"none"}
    assert set(zip(table["round"], table["other"], strict=True)) == {
        (0, "seed:1"), (2, "replicate:1"), (2, "replicate:2"),
    }  # fmt: skip
    rounds = load("tiny", store=root).rounds
    for (lineage, index, other), ends in whole.iterrows():
        rows = rounds[(rounds["lineage"] == lineage) & (rounds["round"] == index)]
        ticket = rows[rows["control"] == "ticket"]["score"].item()
        assert ends["first"] == 1 - ticket
        if index:
            draw = int(other.split(":")[1]) - 1
            rows = rows[(rows["control"] == "replicate") & (rows["draw"] == draw)]
            assert ends["last"] == 1 - rows["score"].item()


def test_a_replicate_is_the_ticket_trained_in_another_order(finished):
    root, sweep = finished
    store = Store.existing(str(root))
    for line in lineages(sweep):
        same = {round.name: round for round in line.rounds if round.index == 2}
        ticket, *replicates = (same[name] for name in ("ticket", "replicate", "replicate, draw 1"))
        weights, masks = harvest(ticket.key, store)
        for replicate in replicates:
            others, its_masks = harvest(replicate.key, store)
            assert its_masks == masks
            assert not torch.equal(others["0.weight"], weights["0.weight"])
        one, other = (harvest(each.key, store)[0]["0.weight"] for each in replicates)
        assert not torch.equal(one, other)


@pytest.mark.parametrize("score", ["random", "snip"])
def test_what_a_replicate_stands_on_is_the_tickets_own(tmp_path, score):
    """Masks that are drawn, data that scores look at, and first steps that nobody kept."""
    said = ("axes={}", "seeds=[0]", "rewind.weights=1ep", f"prune.score={score}", "keep=tickets")
    trained(TINY, tmp_path, *said, "controls=[]")
    sweep = trained(TINY, tmp_path, *said, "controls=[{kind: replicate, at: [2]}]")
    store = Store.existing(str(tmp_path))
    [line] = lineages(sweep)
    *_, ticket, replicate = line.rounds
    (weights, masks), (others, its_masks) = (harvest(r.key, store) for r in (ticket, replicate))
    assert (ticket.replicate, replicate.replicate) == (0, 1)
    assert its_masks == masks
    assert not torch.equal(others["0.weight"], weights["0.weight"])


def test_overlaps_are_counted(finished, probe):
    root, sweep = finished
    table = probe("overlap")
    assert table.groupby("kind").size().to_dict() == {"arms": 4, "rounds": 4, "seeds": 4}
    assert (table["overlap"].between(0, 1) & table["chance"].between(0, 1)).all()
    nested = table[table["kind"] == "rounds"]
    assert (nested["other_round"] == 1).all()
    assert (nested["overlap"] == nested["kept_both"] / nested["kept_either"]).all()
    assert (nested["kept_both"] == nested["density"] * 600).all()
    store = Store.existing(str(root))
    masks = {
        (line.id, round.index): harvest(round.key, store)[1]
        for line in lineages(sweep)
        for round in line.rounds
        if round.control == "ticket"
    }
    for row in table.to_dict("records"):
        one = masks[row["lineage"], row["round"]]
        other = masks[row["other_lineage"], row["other_round"]]
        both = sum(int((one[name] & other[name]).sum()) for name in one)
        assert row["kept_both"] == both


def test_profiles_are_those_of_the_layers_table(finished, probe):
    root, _ = finished
    table = probe("profiles")
    assert ids(table) == rounds_of(root, "small-dense")
    assert table[table["round"] == 0]["relative"].unique().tolist() == [1.0]
    per_round = table.groupby(["lineage", "control", "draw", "round"])
    assert per_round["share_of_kept"].sum().map(lambda share: round(share, 9)).unique() == [1]
    assert per_round["layer"].apply(tuple).unique().tolist() == [("0.weight", "2.weight")]
    assert per_round["index"].apply(tuple).unique().tolist() == [(0, 1)]
    weighed = (table["layer_density"] * table["prunable"]).round().astype(int)
    assert (weighed == table["kept"]).all()


def test_inputs_lose_what_reads_them(finished, probe):
    root, sweep = finished
    table = probe("inputs")
    assert ids(table) == rounds_of(root, "small-dense")
    dense = table[table["round"] == 0]
    assert (dense["fanout"].unique().tolist(), dense["share"].unique().tolist()) == ([12], [1.0])
    assert table["source"].isna().all()
    store = Store.existing(str(root))
    [*_, line] = lineages(sweep)
    last = next(r for r in line.rounds if (r.index, r.control) == (2, "ticket"))
    mask = harvest(last.key, store)[1]["0.weight"]
    rows = table[(table["lineage"] == line.id) & (table["round"] == 2)]
    rows = rows[rows["control"] == "ticket"]
    assert rows["fanout"].tolist() == mask.sum(dim=0).tolist()
    assert rows["alive"].tolist() == mask.any(dim=0).tolist()


def test_dormant_units_are_counted_for_every_network(finished, probe):
    root, _ = finished
    table = probe("dormant")
    assert ids(table) == rounds_of(root)
    assert table["layer"].unique().tolist() == ["0.weight"]
    narrow = table["control"] == "small-dense"
    assert set(table[~narrow]["units"]) == {12}
    assert set(table[narrow]["units"]) < set(range(1, 12))
    assert (table[(table["round"] == 0) | narrow]["dead"] == 0).all()
    assert (table["dead"] <= table["units"]).all()


def test_sizes_count_biases_and_products(finished, probe):
    root, _ = finished
    table = probe("size")
    assert ids(table) == rounds_of(root)
    assert set(table["params"]) == {40 * 12 + 12 + 12 * 10 + 10}
    assert set(table["macs"]) == {600}
    dense = table[table["round"] == 0]
    assert (dense["compression"] == 1).all()
    assert (dense["speedup"] == 1).all()
    masked = table[table["control"] != "small-dense"]
    assert (masked["macs_kept"] == 600 * masked["density"]).all()
    assert (masked["params_kept"] == masked["macs_kept"] + 22).all()
    narrow = table[table["control"] == "small-dense"]
    assert (narrow["macs_kept"] == 600 * narrow["density"]).all()
    assert (narrow["params_kept"] < narrow["macs_kept"] + 22).all()


def test_the_command_shows_the_gist_and_json_the_rows(finished, capsys):
    root, _ = finished
    place = ["--store", str(root)]
    assert main(["analyse", "tiny", "connectivity", *place]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["arm_label", "other", "round", "seeds", "density", "barrier"]
    assert [line.split()[1:4] for line in shown[1:5]] == [
        ["seed", "0", "1"], ["replicate", "2", "2"]
    ] * 2  # fmt: skip
    assert shown[-1].endswith("analyses/connectivity.parquet (300 rows)")
    assert main(["analyse", "tiny", "size", *place, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["sweep"], found["kind"], found["missing_rounds"]) == ("tiny", "size", 0)
    assert len(found["rows"]) == len(load("tiny", store=root).analysis("size"))


@pytest.mark.parametrize("kind", ["connectivity", "dormant", "inputs", "overlap"])
def test_what_takes_long_tells_how_far_it_has_come(finished, kind):
    root, sweep = finished
    steps = {
        "connectivity": 10,  # pairs
        "dormant": len(rounds_of(root)),
        "inputs": len(rounds_of(root, "small-dense")),
        "overlap": 2,  # pruned rounds
    }[kind]
    told: list[tuple[int, int]] = []
    analyse(kind, sweep, Store.open(str(root)), lambda done, total: told.append((done, total)))
    assert told == [(done, steps) for done in range(1, steps + 1)]


STEEP = """
name: steep
trainer:
  {kind: classifier, engine: compiled, dataset: mnist1d, model: mlp-100-100, length: 1500it,
   batch_size: 100, lr: 0.02}
prune: {fraction: 0.75, rounds: 1}
seeds: [0, 1, 2]
axes:
  rewind.weights: [init, 300it]
controls: [replicate]
"""


def barriers(root, name: str) -> pd.DataFrame:
    table = load(name, store=root).analysis("connectivity")
    return table.drop_duplicates(["lineage", "round", "other"])


def test_the_barrier_is_high_between_networks_and_falls_with_the_rewind_point(tmp_path):
    trained(STEEP, tmp_path)
    assert main(["analyse", "steep", "connectivity", "--store", str(tmp_path)]) == 0
    found = barriers(tmp_path, "steep")
    apart = found[found["other"].str.startswith("seed")]
    assert apart["barrier"].min() > 0.2
    assert apart["density"].unique() == [1]
    mean = found[found["other"] == "replicate:1"].groupby("rewind_weights")["barrier"].mean()
    assert mean["init"] > 0.1 > 0.03 > mean["300it"] >= 0


def test_there_is_none_between_two_copies_of_one_child(tmp_path):
    """A ticket that is not trained has no order of the data to differ in."""
    still = ("axes={}", "controls=[replicate]", "rewind={weights: final, retrain: 0it}")
    trained(TINY, tmp_path, *still)
    assert main(["analyse", "tiny", "connectivity", "--store", str(tmp_path)]) == 0
    found = barriers(tmp_path, "tiny")
    assert found[found["other"] == "replicate:1"]["barrier"].tolist() == [0.0] * 4
    assert found[found["other"] == "seed:1"]["barrier"].item() > 0


AGENT = """
name: tiny
trainer:
  {kind: dqn, engine: compiled, env: CartPole-v1, hidden: [8, 8], length: 1400ts,
   nuisance: {noise: 1, duplicates: 5}}
prune: {fraction: 0.5, rounds: 2}
eval: {every: 50%, final: 3}
seeds: [3]
controls: [replicate, small-dense]
"""


def test_an_agent_is_probed_in_its_greedy_episodes_and_has_no_test_error(tmp_path, capsys):
    trained(AGENT, tmp_path)
    place = ["--store", str(tmp_path)]
    assert main(["analyse", "tiny", "connectivity", *place]) == 2
    said = capsys.readouterr().err
    assert "tiny trains agents" in said
    for kind in ("overlap", "profiles", "inputs", "dormant", "size"):
        assert main(["analyse", "tiny", kind, *place]) == 0
    frame = load("tiny", store=tmp_path)
    inputs = frame.analysis("inputs")
    dense = inputs[inputs["round"] == 0]
    assert dense["input_kind"].tolist() == ["own"] * 4 + ["noise"] + ["duplicate"] * 5
    assert dense["source"].dropna().tolist() == [0, 1, 2, 3, 0]
    assert dense["name"].tolist()[:4] == ["position", "velocity", "angle", "angular velocity"]
    dormant = frame.analysis("dormant")
    assert dormant["layer"].unique().tolist() == ["body.0.weight", "body.2.weight"]
    assert set(frame.analysis("size")["macs"]) == {10 * 8 + 8 * 8 + 8 * 2}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("tiny", "conectivity"), 2, "no such kind of analysis: 'conectivity'. Did you mean "
                                     "'connectivity'?"),
        (("tiny", "x"), 2, "Valid: connectivity, overlap, profiles, inputs, dormant, size."),
        (("tinny", "size"), 3, "no sweep 'tinny'"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_with_the_nearest_name(
    finished, capsys, words, code, message
):
    root, _ = finished
    assert main(["analyse", *words, "--store", str(root)]) == code
    assert message in capsys.readouterr().err


def test_a_ticket_that_was_not_kept_is_named_with_what_keeps_it(tmp_path, capsys):
    sweep = trained(TINY, tmp_path, "keep=last", "seeds=[0]", "controls=[replicate]")
    place = ["--store", str(tmp_path)]
    for kind in ("connectivity", "overlap", "inputs", "dormant"):
        assert main(["analyse", "tiny", kind, *place]) == 2
    said = capsys.readouterr().err.splitlines()
    [first, *_] = sorted(lineages(sweep), key=lambda line: line.arm.label)
    assert said[1] == (
        f"raylottery: the ticket of round 1 (ticket) of lineage {first.id} (scope=global, seed 0) "
        f"was let go by the sweep 'tiny' (keep: last). `keep: tickets`, or `keep: {{what: last, "
        f"densities: [0.5]}}`, keeps it: run tiny again with that, and the round is trained again"
    )
    assert "round 0 (ticket)" in said[2]
    assert not (tmp_path / "sweeps/tiny/analyses").exists()
    for kind in ("profiles", "size"):  # these read what each round says of its layers
        assert main(["analyse", "tiny", kind, *place]) == 0
    trained(TINY, tmp_path, "keep=tickets", "seeds=[0]", "controls=[replicate]")
    assert main(["analyse", "tiny", "overlap", *place]) == 0


def test_a_sweep_with_nothing_to_compare_is_told_what_to_add(tmp_path, capsys):
    trained(TINY, tmp_path, "seeds=[0]", "axes={}", "controls=[]")
    assert main(["analyse", "tiny", "connectivity", "--store", str(tmp_path)]) == 2
    assert "Add `controls: [replicate]`, or seeds" in capsys.readouterr().err


def test_of_an_unfinished_sweep_what_is_finished_is_probed(tmp_path, capsys):
    from raylottery.driver.gather import Gatherer
    from raylottery.driver.plan import make_plan

    store = Store.open(str(tmp_path))
    Gatherer(make_plan(parse_sweep(TINY), store), store).open()
    place = ["--store", str(tmp_path)]
    assert main(["analyse", "tiny", "size", *place]) == 3
    assert "no round of tiny is finished yet" in capsys.readouterr().err
    trained(TINY, tmp_path, "name=part", "seeds=[0]", "prune.rounds=1")  # shares its rounds
    assert main(["analyse", "tiny", "size", *place]) == 0
    assert "(6 rows; 13 rounds are not finished and not in it)" in capsys.readouterr().out


def test_a_damaged_table_is_found_and_written_anew(tmp_path, capsys):
    trained(TINY, tmp_path, "seeds=[0]", "axes={}")
    place = ["--store", str(tmp_path)]
    assert main(["analyse", "tiny", "size", *place]) == 0
    path = tmp_path / "sweeps/tiny/analyses/size.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"?" + whole[101:])
    assert main(["doctor", *place]) == 1
    assert "analyses/size.parquet" in capsys.readouterr().out
    assert main(["doctor", *place, "--repair"]) == 0
    assert not path.exists()
    assert main(["analyse", "tiny", "size", *place]) == 0
    assert path.read_bytes() == whole


def test_a_store_on_s3_is_probed_as_any_other(bucket, tmp_path):
    place = bucket.format("probes")
    sweep = parse_sweep(TINY, overrides=["seeds=[0]", "axes={}", "controls=[replicate]"])
    store = Store.open(place)
    assert run(sweep, store, Diary(say=lambda line: None), inline=True).exit_code == 0
    run(sweep, Store.open(str(tmp_path)), Diary(say=lambda line: None), inline=True)
    for kind in PROBES:
        assert main(["analyse", "tiny", kind, "--store", place]) == 0
        assert main(["analyse", "tiny", kind, "--store", str(tmp_path)]) == 0
        there, here = (
            read_table(files, f"sweeps/tiny/analyses/{kind}.parquet")
            for files in (store.files, Store.open(str(tmp_path)).files)
        )
        assert there.equals(here)
