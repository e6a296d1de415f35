from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from raylottery.analysis import Frame, figures, summary
from raylottery.analysis.stats import critical_density, group_mean
from raylottery.errors import UsageError


AXES = {"prune.scope": ["global", "layerwise"], "rewind.weights": ["init", "1ep"]}
STEPS = range(25, 526, 25)
DENSITIES = (1.0, 0.5, 0.25, 0.125)


def score(values, seed, control, density):
    lead = 0.02 * len(str(values.get("prune.scope", ""))) + 0.001 * len(str(values))
    branch = 0.12 * (1 - density) if control != "ticket" else 0.0
    return 0.6 + 0.01 * seed**2 + 0.03 * math.log(density) + lead - branch


def rising(final, density, step):
    return final * (1 - math.exp(-step / (60 + 200 * abs(density - 0.4))))


def write(study, *, name="study", scores=score, curves=True, **more):
    """A study with all of its tables."""
    study.write(
        scores,
        name=name,
        **{"axes": AXES, "controls": ["random-ticket"], "min_loss_step": 200} | more,
        weight_source="init",
    )
    rounds = study.load(name).rounds
    identity = ["sweep", "lineage", "control", "lineage_mode", "draw", "round"]
    points, layers = [], []
    for row in rounds.to_dict("records"):
        head = {key: row[key] for key in identity}
        for step in STEPS:
            value = rising(row["score"], row["density"], step)
            split = {"accuracy": "valid", "return": "eval"}[row["metric"]]
            kind = {"split": split, "metric": row["metric"]}
            points.append(head | kind | {"step": step, "env_step": None, "value": value})
        for index, prunable in enumerate((100, 400, 500)):
            kept = round(prunable * row["density"] ** (1 + 0.3 * index))
            layer = {"layer": f"body.{index}.weight", "shape": "", "density": kept / prunable}
            size = {"prunable": prunable, "kept": kept, "flops_kept": 10 * kept * (3 - index)}
            layers.append(head | layer | size | {"dead_in": 0, "dead_out": 0})
    if curves:
        study.put(name, "curves", pd.DataFrame(points))
        study.put(name, "layers", pd.DataFrame(layers))
    return study.load(name)


@pytest.fixture
def frame(study):
    return write(study)


def arm_of(frame: Frame, label: str) -> str:
    lineages = frame.lineages
    return lineages["arm"][lineages["arm_label"] == label].iloc[0]


def marked(drawn, arm: str, kind: type) -> list:
    """The artists of an arm on the axes of a figure, and not in its legend."""
    return [
        artist
        for axes in drawn.figure.axes
        for artist in axes.findobj(kind)
        if (artist.get_gid() or "").startswith(f"arm-{arm}--")
    ]


def lines(drawn, arm: str, *, dashed: bool = False) -> list[Line2D]:
    """Its lines of means: those that have markers."""
    found = [line for line in marked(drawn, arm, Line2D) if line.get_marker() != "None"]
    return [line for line in found if line.is_dashed() == dashed]


def x_of(line: Line2D) -> list[float]:
    return np.asarray(line.get_xdata()).tolist()


def y_of(line: Line2D) -> list[float]:
    return np.asarray(line.get_ydata()).tolist()


def by_hand(frame: Frame, arm: str, column: str = "score", control: str = "ticket"):
    rounds = frame.rounds
    own = rounds[(rounds["arm"] == arm) & (rounds["control"] == control)]
    return [group_mean(part[column].to_numpy()) for _, part in own.groupby("round")]


@pytest.mark.parametrize("control", ["ticket", "random-ticket"])
def test_lines_and_bands_are_the_means_and_intervals_of_the_rounds(frame, control):
    drawn = figures.score_by_density(frame)
    for arm in frame.lineages["arm"].unique():
        [line] = lines(drawn, arm, dashed=control != "ticket")
        means = by_hand(frame, arm, control=control)
        assert list(x_of(line)) == list(DENSITIES[-len(means) :])
        assert y_of(line) == pytest.approx([100 * mean.mean for mean in means])
    assert len(frame.lineages["arm"].unique()) == 4


def test_a_band_is_the_interval_over_seeds(frame):
    drawn = figures.score_by_density(frame, controls=False)
    arm = arm_of(frame, "scope=global weights=init")
    low, high = [
        y_of(line)
        for line in marked(drawn, arm, Line2D)
        if line.get_marker() == "None" and not line.is_dashed()
    ]
    means = by_hand(frame, arm)
    assert low == pytest.approx([100 * mean.low for mean in means])
    assert high == pytest.approx([100 * mean.high for mean in means])


def test_flops_are_the_share_that_the_layers_keep(frame):
    drawn = figures.score_by_flops(frame)
    arm = arm_of(frame, "scope=global weights=init")
    layers = frame.layers[frame.layers["control"] == "ticket"]
    own = layers[layers["lineage"].isin(frame.lineages["lineage"][frame.lineages["arm"] == arm])]
    kept = own[own["lineage"] == own["lineage"].iloc[0]].groupby("round")["flops_kept"].sum()
    [line] = lines(drawn, arm)
    assert x_of(line) == pytest.approx(kept / kept[0])
    assert f"{kept[0]:,}" in drawn.caption


def test_a_line_a_value_is_the_mean_over_the_other_axes_within_each_seed(frame):
    drawn = figures.score_by_density(frame, by="prune.scope", controls=False)
    [line] = [
        line
        for line in drawn.figure.axes[0].findobj(Line2D)
        if str(line.get_gid()).startswith("value-layerwise") and line.get_marker() != "None"
    ]
    rounds = frame.rounds[(frame.rounds["control"] == "ticket")]
    of = rounds[rounds["prune.scope"] == "layerwise"].groupby("round")["score"].mean()
    assert y_of(line) == pytest.approx(100 * of)


def test_a_mean_over_arms_lacks_the_seeds_that_lack_an_arm(study):
    """Seed 2 of one of the two arms is planned and has no round: its other arm is no mean."""

    def one_missing(values, seed, control, density):
        missing = seed == 2 and values["rewind.weights"] == "1ep"
        return None if missing else score(values, seed, control, density)

    frame = write(study, scores=one_missing)
    drawn = figures.score_by_density(frame, by="prune.scope", controls=False)
    assert "n = 2 seeds" in drawn.caption


def test_a_mean_over_arms_of_which_no_seed_has_all_is_refused(study):
    def one_arm(values, seed, control, density):
        there = values["rewind.weights"] == "init"
        return score(values, seed, control, density) if there else None

    with pytest.raises(UsageError, match='by="arm_label"'):
        figures.score_by_density(write(study, scores=one_arm), by="prune.scope")


def test_a_value_that_is_one_arm_looks_like_the_arm(study):
    frame = write(study, axes={"prune.scope": ["layerwise", "global"]})
    colours = figures.colours(frame)
    drawn = figures.score_by_density(frame, by="prune.scope")
    for label in ("scope=global", "scope=layerwise"):
        arm = arm_of(frame, label)
        assert {to_hex(line.get_color()) for line in lines(drawn, arm)} == {colours[arm].lower()}


def test_seeds_whose_densities_differ_are_read_where_all_have_passed(study):
    """A mean at one density, not over densities: from 0.5 and 0.4, at 0.5."""
    frame = write(study, axes={}, controls=(), seeds=(0, 1))
    rounds = pd.read_parquet(study.store / "sweeps/study/rounds.parquet")
    last = (rounds["seed"] == 1) & (rounds["round"] == 1)
    rounds.loc[last, "density"] = 0.4
    study.put("study", "rounds", rounds)
    drawn = figures.score_by_density(study.load())
    [line] = lines(drawn, frame.lineages["arm"].iloc[0])
    own = rounds[rounds["seed"] == 1].set_index("round")["score"]
    share = math.log(1 / 0.5) / math.log(1 / 0.4)
    between = own[0] + share * (own[1] - own[0])
    other = rounds[(rounds["seed"] == 0) & (rounds["round"] == 1)]["score"].iloc[0]
    assert x_of(line)[1] == 0.5
    assert y_of(line)[1] == pytest.approx(100 * (between + other) / 2)


def first_reached(frame, arm, number, threshold):
    curves = frame.curves[
        (frame.curves["control"] == "ticket") & (frame.curves["round"] == number)
    ]
    own = curves[curves["lineage"].isin(frame.lineages["lineage"][frame.lineages["arm"] == arm])]
    good = own[own["value"] >= threshold].groupby("lineage")["step"].min()
    return good.mean() if len(good) == own["lineage"].nunique() else math.nan


def test_speed_is_the_first_step_at_the_threshold_and_a_gap_where_a_seed_never_gets_there(frame):
    drawn = figures.training_speed(frame, threshold=0.74)
    gaps = 0
    for arm in frame.lineages["arm"].unique():
        _, line = lines(drawn, arm)
        expected = [first_reached(frame, arm, number, 0.74) for number in range(4)]
        assert y_of(line) == pytest.approx(expected, nan_ok=True)
        gaps += sum(map(math.isnan, expected))
    assert gaps > 0
    assert "74 %" in drawn.caption
    assert "no point where a seed never reaches it" in drawn.caption


def test_the_lowest_validation_loss_is_counted_from_where_the_round_began(study):
    """A round rewound to the 35th update of 525 trains 490: its step 200 is its 165th."""
    frame = write(study, steps=lambda values: 490)
    drawn = figures.training_speed(frame)
    line, _ = lines(drawn, frame.lineages["arm"].iloc[0])
    assert set(y_of(line)) == {165.0}


def test_the_default_threshold_is_one_that_every_dense_network_reaches(frame):
    drawn = figures.training_speed(frame)
    for arm in frame.lineages["arm"].unique():
        assert np.isfinite(y_of(lines(drawn, arm)[1])[0])


def test_learning_curves_are_the_means_of_the_evaluations(frame):
    drawn = figures.learning_curves(frame)
    panels = [axes for axes in drawn.figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == [
        "round 0, 100 %",
        "round 1, 50 %",
        "round 2, 25 %",
        "round 3, 12.5 %",
    ]
    arm = arm_of(frame, "scope=layerwise weights=1ep")
    mine = frame.lineages["lineage"][frame.lineages["arm"] == arm]
    curves = frame.curves[frame.curves["lineage"].isin(mine)]
    for number, line in enumerate(lines(drawn, arm)):
        own = curves[(curves["round"] == number) & (curves["control"] == "ticket")]
        expected = own.groupby("step")["value"].mean()
        assert list(x_of(line)) == list(expected.index)
        assert y_of(line) == pytest.approx(100 * expected)


def test_the_heat_map_holds_the_densities_of_the_layers(frame):
    drawn = figures.layer_densities(frame)
    arm = arm_of(frame, "scope=global weights=init")
    [image] = marked(drawn, arm, AxesImage)
    mine = frame.lineages["lineage"][frame.lineages["arm"] == arm]
    own = frame.layers[frame.layers["lineage"].isin(mine) & (frame.layers["control"] == "ticket")]
    expected = own.groupby(["layer", "round"])["density"].mean().unstack()
    assert image.get_array().data == pytest.approx(expected.to_numpy())


def test_critical_densities_are_those_of_the_statistics(frame):
    drawn = figures.critical_densities(frame, margin=0.03)
    rounds = frame.rounds[frame.rounds["control"] == "ticket"]
    for arm, own in rounds.groupby("arm"):
        scores = own.pivot(index="seed", columns="density", values="score")
        expected = critical_density(scores.columns, scores.to_numpy(), margin=0.03)
        dot = lines(drawn, arm)[0]
        assert x_of(dot) == pytest.approx([expected.density])
    assert "3 points of accuracy" in drawn.caption


def test_a_score_that_never_leaves_the_margin_is_at_most_the_sparsest(frame):
    drawn = figures.critical_densities(frame, margin=0.5)
    texts = [text.get_text() for text in drawn.figure.axes[0].texts]
    assert texts[0].startswith("at most 12.5 %")
    assert "An arrow goes on below" in drawn.caption


def test_the_rewind_curve_shows_the_summary_at_each_rewind_point(frame):
    drawn = figures.rewind_curve(frame)
    table = summary(frame)
    for row in table.rows:
        if row.control == "ticket":
            shown = [y_of(dot)[0] for dot in lines(drawn, row.arm)]
            assert shown == pytest.approx([100 * cell.mean for cell in row.cells[1:] if cell])
    labels = [text.get_text() for text in drawn.figure.axes[0].get_xticklabels()]
    assert labels == ["init", "1ep"]


@pytest.mark.parametrize("name", [name for name in figures.FIGURES if name != "layer_densities"])
def test_an_arm_has_one_colour_and_one_marker_in_all_figures(frame, name):
    drawn = figures.FIGURES[name](frame)
    reference = figures.score_by_density(frame)
    for arm, colour in figures.colours(frame).items():
        shown = marked(drawn, arm, Line2D)
        assert shown
        assert {to_hex(line.get_color()) for line in shown} == {colour.lower()}
        [marker] = {line.get_marker() for line in lines(reference, arm)}
        assert {line.get_marker() for line in shown} <= {marker, "None", ">"}


def test_arms_are_told_apart_by_colour_and_without(frame):
    drawn = figures.score_by_density(frame)
    arms = frame.lineages["arm"].unique()
    assert len(set(figures.colours(frame).values())) == len(arms)
    assert len({lines(drawn, arm)[0].get_marker() for arm in arms}) == len(arms)


def test_colours_follow_the_axes_as_people_list_them(frame):
    order = [arm_of(frame, f"scope={scope} weights={point}")
             for scope, point in itertools.product(*AXES.values())]  # fmt: skip
    assert list(figures.colours(frame)) == order


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_caption_says_how_many_seeds_and_by_which_method(study, name):
    caption = figures.FIGURES[name](write(study)).caption
    assert "n = 3 seeds" in caption
    assert ("95 % Student t intervals" in caption) or ("without intervals" in caption)
    alone = figures.FIGURES[name](write(study, seeds=(0,))).caption
    assert "n = 1 seed" in alone
    assert "Student" not in alone
    assert alone.endswith(".")


def test_seeds_still_on_their_way_are_counted_where_they_are(study):
    def half(values, seed, control, density):
        late = values["prune.scope"] == "layerwise"
        if late and (seed or density < 1) and values["rewind.weights"] == "1ep":
            return None
        return None if seed == 2 and density < 0.5 else score(values, seed, control, density)

    frame = write(study, scores=half)
    drawn = figures.score_by_density(frame)
    assert "n = 1 to 3 seeds, none where there is one" in drawn.caption
    [line] = lines(drawn, arm_of(frame, "scope=global weights=init"))
    rounds = frame.rounds
    own = rounds[rounds["arm"] == arm_of(frame, "scope=global weights=init")]
    means = own[own["control"] == "ticket"].groupby("round")["score"].mean()
    assert y_of(line) == pytest.approx(100 * means)
    critical = figures.critical_densities(frame).caption
    assert "Without a pruned round: scope=layerwise weights=1ep." in critical
    for draw in figures.FIGURES.values():
        draw(frame)


def test_an_arm_without_rounds_is_named_and_not_in_the_legend(study):
    def one(values, seed, control, density):
        global_ = values["prune.scope"] == "global"
        return score(values, seed, control, density) if global_ else None

    drawn = figures.score_by_density(
        write(study, scores=one, axes={"prune.scope": ["global", "erk"]})
    )
    assert "Without a finished round: scope=erk." in drawn.caption
    legend = [text.get_text() for text in drawn.figure.legends[0].get_texts()]
    assert legend == ["scope=global", "random-ticket"]


MANY = {"prune.scope": ["global", "layerwise", "erk"], "trainer.lr": [0.1, 0.01, 0.001]}


def test_of_many_arms_the_best_are_coloured_and_the_others_grey(study):
    frame = write(study, axes=MANY)
    colours = figures.colours(frame)
    grey = [arm for arm, colour in colours.items() if colour == "#C8C8C8"]
    assert len(grey) == 3
    last = {
        row.arm: cell.mean
        for row in summary(frame).rows
        if row.control == "ticket" and (cell := row.cells[-1])
    }
    assert max(last[arm] for arm in grey) <= min(last[arm] for arm in last if arm not in grey)
    for name, draw in figures.FIGURES.items():
        if name != "rewind_curve":
            assert "the other 3 grey" in draw(frame).caption
    legend = figures.score_by_density(frame).figure.legends[0].get_texts()
    assert legend[-1].get_text() == "3 other arms"


def test_an_arm_that_two_sweeps_label_differently_is_one_arm(study):
    write(study, name="one", axes={"rewind.weights": ["init", "1ep"]}, seeds=(0,))
    write(study, name="all", axes=AXES)
    frame = study.load("one", "all")
    arms = list(figures.colours(frame))
    assert len(arms) == 4
    drawn = figures.score_by_density(frame)
    assert "n = 3 seeds" in drawn.caption
    legend = [text.get_text() for text in drawn.figure.legends[0].get_texts()]
    assert legend[0] == frame.lineages["arm_label"][frame.lineages["arm"] == arms[0]].iloc[0]
    assert legend.count("weights=init") == 1
    assert "n = 3 seeds" in figures.rewind_curve(frame).caption


def test_an_interval_that_does_not_fit_is_said_to_be_wider(study):
    def far(values, seed, control, density):
        return score(values, seed, control, density) + 0.1 * (seed == 0)

    wider = "wider than shown"
    assert wider in figures.score_by_density(write(study, scores=far)).caption
    same = write(study, scores=lambda v, seed, c, density: 0.5 + 0.1 * density, seeds=(0, 1))
    assert wider not in figures.score_by_density(same).caption


def test_controls_are_drawn_beside_few_arms_or_where_asked(study, frame):
    assert "Dashed: random-ticket" in figures.score_by_density(frame).caption
    assert "Dashed" not in figures.score_by_density(frame, controls=False).caption
    many = write(study, name="many", axes=MANY)
    assert "Dashed" not in figures.score_by_density(many).caption
    assert "Dashed: random-ticket" in figures.score_by_density(many, controls=True).caption


def test_sweeps_that_share_lineages_show_them_once_and_arms_of_one_label_apart(study):
    write(study, name="first", axes={})
    write(study, name="second", axes={}, spec={"trainer.lr": 0.1})
    write(study, name="third", axes={})
    frame = study.load("first", "second", "third")
    drawn = figures.score_by_density(frame)
    legend = [text.get_text() for text in drawn.figure.legends[0].get_texts()]
    assert legend == ["first: base", "second: base", "random-ticket"]
    assert "n = 3 seeds" in drawn.caption


@pytest.mark.parametrize("name", figures.FIGURES)
def test_the_same_frame_gives_the_same_bytes_in_three_formats(frame, tmp_path, name):
    written = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths = figures.save(figures.FIGURES[name](frame), tmp_path / folder / name)
        assert [path.name for path in paths] == [f"{name}.png", f"{name}.svg", f"{name}.pdf"]
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
    png, svg, pdf = written[0]
    assert png.startswith(b"\x89PNG")
    assert pdf.startswith(b"%PDF")
    assert b"<svg" in svg


@pytest.mark.parametrize("name", figures.FIGURES)
def test_text_in_an_svg_is_text_and_ids_are_the_arms(frame, name):
    svg = figures.svg(figures.FIGURES[name](frame))
    assert re.search(r"<text[^>]*>[^<]*(scope=global weights=init|init)", svg)
    assert "font-family" in svg or "font:" in svg
    ids = re.findall(r'id="(arm-[0-9a-f]{12}--\d+)"', svg)
    assert len(ids) == len(set(ids))
    assert {identity[4:16] for identity in ids} == set(frame.lineages["arm"])
    assert len(svg) < 150_000


def test_a_path_that_cannot_be_written_is_refused(frame, tmp_path):
    with pytest.raises(UsageError, match="Name a file in a folder that exists"):
        figures.save(figures.score_by_density(frame), tmp_path / "nowhere" / "figure")


def test_no_curves_or_layers_yet_is_said(study):
    frame = write(study, curves=False)
    for name in ("learning_curves", "training_speed"):
        with pytest.raises(UsageError, match=r"no curves\.parquet yet"):
            figures.FIGURES[name](frame)
    for name in ("score_by_flops", "layer_densities"):
        with pytest.raises(UsageError, match=r"no layers\.parquet yet"):
            figures.FIGURES[name](frame)


@pytest.mark.parametrize(
    ("draw", "wish"),
    [
        (lambda frame: figures.score_by_density(frame, metric="scor"), "Did you mean 'score'"),
        (lambda frame: figures.score_by_density(frame, by="prune.scop"), "'prune.scope'"),
        (lambda frame: figures.score_by_density(frame, metric="supermask_score"), "status"),
        (lambda frame: figures.training_speed(frame, threshold=2.0), r"accuracy of 200 %"),
        (lambda frame: figures.critical_densities(frame, margin=-1), "margin"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_mend(study, draw, wish):
    frame = write(study, min_loss_step=None)
    with pytest.raises(UsageError, match=wish):
        draw(frame)


def test_a_rewind_curve_needs_rewind_points(study):
    with pytest.raises(UsageError, match="every arm rewinds to init"):
        figures.rewind_curve(write(study, axes={"prune.scope": ["global", "erk"]}))


def test_accuracy_and_return_do_not_share_an_axis(study):
    write(study, name="images")
    write(study, name="agents", metric="return", spec={"trainer.kind": "dqn"})
    frame = study.load("images", "agents")
    for name, draw in figures.FIGURES.items():
        if name != "layer_densities":
            with pytest.raises(UsageError, match="one at a time"):
                draw(frame)


def test_only_the_dense_round_is_enough_where_nothing_pruned_is_asked_for(study):
    def dense(values, seed, control, density):
        return score(values, seed, control, density) if density == 1 else None

    frame = write(study, scores=dense)
    for name, draw in figures.FIGURES.items():
        if name == "critical_densities":
            with pytest.raises(UsageError, match="no arm has been pruned yet"):
                draw(frame)
        else:
            draw(frame)


def test_returns_are_drawn_as_they_are_with_a_margin_of_their_own(study):
    frame = write(
        study,
        scores=lambda *cell: 500 * score(*cell),
        metric="return",
        spec={"trainer.kind": "dqn"},
    )
    drawn = figures.score_by_density(frame)
    arm = frame.lineages["arm"].iloc[0]
    [line] = lines(drawn, arm)
    assert y_of(line) == pytest.approx([mean.mean for mean in by_hand(frame, arm)])
    assert drawn.figure.axes[0].get_title(loc="left") == "Mean return"
    assert "of its mean return" in figures.critical_densities(frame).caption
