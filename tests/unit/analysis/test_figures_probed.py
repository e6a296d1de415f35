"""Figures of controls and of what probes found, and what they say if they cannot be drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from raylottery.analysis import figures
from raylottery.errors import UsageError
from raylottery.store.schemas import ANALYSES


REWINDS = {"rewind.weights": ["init", "1ep"]}
CONTROLS = ["reinit", "random-global", "permuted-both"]
FALL = {"ticket": 0.05, "reinit": 0.1, "permuted-both": 0.15, "random-global": 0.2}


def falling(values, seed, control, density):
    return 0.9 - FALL[control] * (1 - density) - 0.01 * seed


def write(study, *, scores=falling, **more):
    study.write(scores, **{"axes": REWINDS, "controls": CONTROLS} | more, weight_source="init")
    return study.load("study")


def analysed(study, kind, rows):
    """Puts the table of a probe where the command would."""
    table = pd.DataFrame(rows)[ANALYSES[kind].names]
    study.put("study", f"analyses/{kind}", table)


def x_of(line):
    return np.asarray(line.get_xdata(), dtype=float)


def y_of(line):
    return np.asarray(line.get_ydata(), dtype=float)


def of_tickets(frame):
    rounds = frame.rounds
    names = ["sweep", "arm", "arm_label", "lineage", "seed", "round", "density"]
    return rounds[rounds["control"] == "ticket"][[*names, "rewind.weights"]].to_dict("records")


def test_a_ladder_has_a_rung_for_each_control_best_first(study):
    drawn = figures.control_ladder(write(study))
    first, second = (axes for axes in drawn.figure.axes if axes.get_visible())
    order = ["ticket", "reinit", "permuted-both", "random-global"]
    for axes in (first, second):
        assert [line.get_label() for line in axes.get_lines()] == order
    by_name = {line.get_label(): line for line in first.get_lines()}
    assert list(x_of(by_name["ticket"])) == [1.0, 0.5, 0.25, 0.125]
    assert list(x_of(by_name["reinit"])) == [0.5, 0.25, 0.125]
    assert y_of(by_name["reinit"])[0] == pytest.approx(100 * (0.9 - 0.05 - 0.01))
    [legend] = drawn.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["tickets", *order[1:]]
    assert len({line.get_color() for line in first.get_lines()}) == 4
    assert "n = 3 seeds" in drawn.caption


def test_a_ladder_without_controls_says_how_to_have_some(study):
    with pytest.raises(UsageError, match=r"controls: \[reinit"):
        figures.control_ladder(write(study, controls=[]))


def test_a_ladder_needs_a_control_of_an_arm_that_has_a_colour(study):
    """Of nine arms the best are coloured; here the controls of the worst alone are done."""
    points = [f"{number}it" for number in range(1, 10)]

    def uneven(values, seed, control, density):
        rank = points.index(values["rewind.weights"])
        return None if control != "ticket" and rank else 0.5 + 0.02 * rank - 0.1 * (1 - density)

    with pytest.raises(UsageError, match="of a coloured arm"):
        figures.control_ladder(write(study, axes={"rewind.weights": points}, scores=uneven))


def test_inputs_are_rows_and_their_shares_the_colours(study):
    frame = write(study)
    rows = [
        head
        | {"control": "ticket", "lineage_mode": "own", "draw": 0, "input": place, "source": None}
        | {"input_kind": "own", "name": name, "fanout": 1, "alive": True}
        | {"share": head["density"] * (1 - place) * (1 + 0.1 * (head["seed"] - 1))}
        for head in of_tickets(frame)
        for place, name in enumerate(("angle", "noise 0"))
    ]
    analysed(study, "inputs", rows)
    drawn = figures.input_survival(study.load("study"))
    panel = drawn.figure.axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["angle", "noise 0"]
    cells = np.ma.asarray(panel.images[0].get_array())
    assert cells[0, 2] == pytest.approx(0.25)
    assert np.ma.getmaskarray(cells)[1].all(), "what nobody reads is white"


def test_barriers_are_means_by_rewind_point_and_density(study):
    frame = write(study)
    rows = []
    for head in of_tickets(frame):
        late = head["rewind.weights"] == "1ep"
        barrier = (0.1 if late else 0.4) * (1 - head["density"]) + 0.01 * head["seed"]
        others = ["replicate:1"] if head["round"] else ["seed:9"]
        for other, alpha in ((other, alpha) for other in others for alpha in (0.0, 0.5)):
            point = {"rewind_weights": head["rewind.weights"], "alpha": alpha, "error": 0.2}
            value = 0.7 if other == "seed:9" else barrier
            rows.append(head | point | {"other": other, "barrier": value, "batch_norm": "none"})
    analysed(study, "connectivity", rows)
    drawn = figures.barriers(study.load("study"))
    assert "dense networks of two seeds it is 70.0 %" in drawn.caption
    assert len(drawn.figure.axes) == 3
    last = drawn.figure.axes[-1]
    dots = [line for line in last.get_lines() if line.get_marker() != "None"]
    heights = sorted(float(y_of(line)[0]) for line in dots)
    assert heights == pytest.approx([100 * (0.1 * 0.875 + 0.01), 100 * (0.4 * 0.875 + 0.01)])


@pytest.mark.parametrize("name", ["input_survival", "barriers"])
def test_what_was_not_analysed_yet_is_told_with_the_command(study, name):
    with pytest.raises(UsageError, match="raylottery analyse study"):
        figures.FURTHER[name](write(study))
