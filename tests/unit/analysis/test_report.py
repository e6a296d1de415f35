"""The page about sweeps: what it opens on, what it holds, and that it is whole in itself."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib import resources

import pandas as pd
import pytest

from raylottery.analysis.report import gather, page, report
from raylottery.analysis.report.html import prose
from raylottery.cli import main


AXES = {"prune.scope": ["global", "layerwise"], "rewind.weights": ["init", "1ep"]}
VOID = {"meta", "link", "input", "img", "br"}
CLOSED_BY_OTHERS = {"th", "td", "tr", "tbody"}
PROVENANCE = {
    "raylottery": "0.1.0",
    "python": "3.11.7",
    "packages": {"torch": "2.15.0", "gymnasium": None},
    "platform": "Linux",
    "commit": "0123abcd-dirty",
    "at": "2026-11-21T07:58:05+00:00",
}


def score(values, seed, control, density):
    """Global gains up to 4 points with sparsity, controls lose 10; seeds differ a little."""
    lead = 0.04 if values.get("prune.scope") == "global" else 0.0
    loss = 0.1 + 0.002 * seed if control != "ticket" else 0.0
    return 0.8 + lead * (1 - density) * (1 + 0.1 * seed) + 0.005 * seed * density - loss


def write(study, score, *, rounds=3, **settings):
    """A study whose rounds have the columns that figures read, and whose spec plans as many."""
    spec = {"prune.rounds": rounds, **settings.pop("spec", {})}
    columns = {"weight_source": "init", "stopped_by": "length", "seconds": 2.0}
    study.write(score, spec=spec, **columns, **settings)


def extras(study, name="study"):
    """The tables that a sweep writes when it ends, empty, and its provenance."""
    failures = ["sweep", "lineage", "control", "error", "first_line", "log"]
    frame = pd.DataFrame({column: pd.Series(dtype="str") for column in failures})
    frame = frame.assign(round=pd.Series(dtype="int64"), attempt=pd.Series(dtype="int64"))
    study.put(name, "failures", frame)
    path = study.store / "sweeps" / name / "provenance.json"
    path.write_text(json.dumps(PROVENANCE))


def failed(study, lineage, text="the loss is no number", name="study"):
    row = {
        "sweep": name, "lineage": lineage, "control": "ticket", "round": 4, "attempt": 2,
        "error": "TrainingError", "first_line": text, "log": f"sweeps/{name}/logs/{lineage}.log",
    }  # fmt: skip
    study.put(name, "failures", pd.DataFrame([row]))


class Outline(HTMLParser):
    """The text of each element of interest, and whether all that opens is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in VOID | CLOSED_BY_OTHERS:
            self.open.append(tag)
            self.text.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        if tag not in CLOSED_BY_OTHERS:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data):
        for tag in set(self.open):
            self.text[tag][-1] += data


def words(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("\N{NO-BREAK SPACE}", " ")).strip()


@pytest.fixture
def whole(study):
    """Two scopes by two rewind points, three seeds, a control, all done."""
    write(
        study, score, axes=AXES, controls=["random-ticket"], spec={"controls": ["random-ticket"]}
    )
    extras(study)
    return study


def test_it_opens_on_the_answer(whole):
    outline = Outline(report(whole.load()))
    (headline,) = outline.text["h1"]
    assert words(headline).startswith("At 20 % density global beats layerwise by 3.5 points")
    assert outline.open == []


def test_every_axis_and_the_controls_are_asked(whole):
    asked = [words(head) for head in Outline(report(whole.load())).text["h3"]]
    assert asked[:3] == ["By prune.scope", "By rewind.weights", "Tickets against controls"]


def test_the_figure_comes_before_anything_else(whole):
    text = report(whole.load())
    assert text.index("<h1>") < text.index("<svg") < text.index("<h2")
    assert 'data-arm="' in text


def test_the_tables_hold_arms_lineages_and_no_failure(whole):
    text = words(report(whole.load()))
    assert text.count("<details>") == 12
    assert text.count('<tr class="control">') == 4
    assert "No attempt failed." in text
    assert "3 of 3" in text
    assert "84 of 84 rounds" in text


def test_methods_are_written_from_the_spec_and_the_provenance(whole):
    (method,) = gather(whole.load()).methods
    text = " ".join((method.training, method.pruning, method.comparing, method.made))
    for part in (
        "mnist1d", "15ep", "removes 50 % of the surviving weights", "3 rounds",
        "global or layerwise (varied)", "init or 1ep (varied)", "random-ticket",
        "3 seeds (0, 1, 2)", "Student t", "torch 2.15.0", "commit 0123abcd-dirty",
    ):  # fmt: skip
        assert part in text
    assert "gymnasium" not in text


def test_methods_of_an_agent_say_what_is_reset(study):
    trainer = {"trainer.kind": "dqn", "trainer.env": "CartPole-v1", "eval": {"final": 20}}
    write(study, score, spec=trainer | {"reset": {"optimizer": "fresh", "replay": "kept"}})
    (method,) = gather(study.load()).methods
    assert "learns CartPole-v1" in method.training
    assert "mean return of 20 greedy episodes" in method.training
    assert "optimizer fresh, replay kept" in method.pruning
    assert "not recorded" in method.made


def test_equal_tables_give_equal_bytes(whole):
    assert report(whole.load()) == report(whole.load())


def test_it_asks_the_network_for_nothing(whole):
    text = report(whole.load())
    outline = Outline(text)
    assert all(link.startswith(("#", "data:")) for link in outline.links)
    assert "http:" not in text.replace("http://www.w3.org/", "")
    assert "https:" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_what_comes_from_outside_is_text(study):
    bad = "<script>alert(1)</script>\"'&$x^2$"
    write(study, score, axes={"trainer.model": ["mlp", bad]})
    extras(study)
    lineage = study.load().lineages["lineage"].iloc[0]
    failed(study, lineage, text=f"</td>{bad}")
    text = report(study.load())
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert text.count("<script>") == 1
    assert Outline(text).open == []


def test_ids_are_unique_over_all_figures(whole):
    ids = re.findall(r'\sid="([^"]+)"', report(whole.load()))
    assert len(ids) == len(set(ids))


def test_references_inside_figures_are_there(whole):
    text = report(whole.load())
    ids = set(re.findall(r'\sid="([^"]+)"', text))
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text))
    assert {one or other for one, other in used} <= ids


def test_half_finished_says_what_is_missing(study):
    def half(values, seed, control, density):
        late = values["prune.scope"] == "layerwise" and seed > 0 and density < 0.5
        return None if late else score(values, seed, control, density)

    write(study, half, axes=AXES)
    found = gather(study.load())
    assert "4 lineages of 12 are not finished: 8 of 48 rounds are missing." in found.missing[0]
    assert any("no table of curves, layers, failures yet" in text for text in found.missing)
    assert "Not known yet: failures" in page(found)


def test_it_opens_where_seeds_give_an_interval(study):
    def one_is_deeper(values, seed, control, density):
        return None if seed > 0 and density < 0.5 else score(values, seed, control, density)

    write(study, one_is_deeper, axes=AXES)
    found = gather(study.load())
    assert [line.seeds for line in found.answers[0].lines] == [3, 1]
    assert found.opening.startswith("At 50 % density ")
    assert "95 % interval" in found.opening


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("label", ["$x^{$", "_hidden", "\u6a21\u578b", "</script><b>", "a\nb"])
def test_a_label_of_any_marks_is_drawn_as_it_is(study, label):
    write(study, score, axes={"trainer.model": [label, "mlp"]})
    assert "<text" in report(study.load())


def test_black_is_the_ink_of_the_page_wherever_it_names_an_arm(study):
    write(study, score, axes={"trainer.lr": [0.1 * number for number in range(1, 9)]})
    text = report(study.load())
    assert "--arm: var(--ink)" in text
    assert "--arm: #000000" not in text


def test_failures_are_listed_and_counted(study):
    write(
        study,
        lambda values, seed, control, density: (
            None if seed == 2 and density < 0.2 else score(values, seed, control, density)
        ),
        axes={"prune.scope": ["global", "layerwise"]},
        densities=lambda _: (1.0, 0.5, 0.25, 0.2, 0.125),
        rounds=4,
    )
    lineages = study.load().lineages
    failed(study, lineages["lineage"][lineages["seed"] == 2].iloc[0])
    found = gather(study.load())
    assert any(text.startswith("1 lineage failed") for text in found.missing)
    (row,) = found.failures.rows
    assert (row.seed, row.error, row.text) == ("2", "TrainingError", "the loss is no number")


def test_a_failure_that_was_mended_is_listed_and_not_missing(study):
    write(study, score, axes={"prune.scope": ["global", "layerwise"]})
    lineage = study.load().lineages["lineage"].iloc[0]
    row = {
        "sweep": "study", "lineage": lineage, "control": "ticket", "round": 2, "attempt": 1,
        "error": "OSError", "first_line": "no space", "log": "x.log",
    }  # fmt: skip
    study.put("study", "failures", pd.DataFrame([row]))
    found = gather(study.load())
    assert len(found.failures.rows) == 1
    assert not any("failed" in text for text in found.missing)


def test_one_seed_says_that_chance_cannot_be_told(study):
    write(study, score, axes={"prune.scope": ["global", "layerwise"]}, seeds=[7])
    found = gather(study.load())
    assert "one seed cannot tell this from chance" in found.opening
    assert any("one seed only" in text for text in found.missing)
    page(found)


def test_one_arm_is_said_to_have_nothing_beside_it(study):
    study.write(score)
    found = gather(study.load())
    assert found.opening.startswith("Nothing can be compared yet: base scores 80.5 % at dense")
    assert any("one arm only" in text for text in found.missing)
    assert "<svg" in page(found)


def test_one_arm_with_controls_has_an_answer(study):
    write(study, score, controls=["reinit"], spec={"controls": ["reinit"]})
    found = gather(study.load())
    assert "tickets beat reinit by 10.2 points" in found.opening
    assert not any("one arm only" in text for text in found.missing)


def test_an_arm_without_a_round_has_a_row(study):
    def one_side(values, seed, control, density):
        return score(values, seed, control, density) if values["prune.scope"] == "erk" else None

    write(study, one_side, axes={"prune.scope": ["erk", "global"]})
    found = gather(study.load())
    assert [row.rounds.text for row in found.arms.rows] == ["12 of 12", "0 of 12"]
    assert any(text.startswith("By prune.scope: no pair of lineages") for text in found.missing)
    page(found)


def test_no_round_at_all_still_gives_a_page(study):
    write(study, score, axes={"prune.scope": ["global", "layerwise"]})
    rounds = study.load().read("rounds").to_pandas()
    study.put("study", "rounds", rounds.iloc[:0])
    found = gather(study.load())
    assert found.opening.startswith("No round of study is finished yet")
    assert "<svg" not in page(found)


def test_only_dense_rounds_are_no_answer(study):
    write(
        study,
        lambda values, seed, control, density: 0.8 + 0.01 * seed if density == 1.0 else None,
        axes={"prune.scope": ["global", "layerwise"]},
    )
    found = gather(study.load())
    assert found.opening.startswith("Nothing can be compared yet")
    page(found)


def test_axes_that_change_together_are_asked_once(study):
    write(
        study,
        score,
        zipped=[
            {"prune.scope": "global", "prune.score": "magnitude"},
            {"prune.scope": "layerwise", "prune.score": "random"},
        ],
    )
    (asked,) = gather(study.load()).answers
    assert asked.by == "prune.scope"
    assert any("prune.score changes together" in note for note in asked.notes)


def test_several_sweeps_are_one_page(study):
    write(study, score, name="one", axes={"prune.scope": ["global", "layerwise"]})
    write(study, score, name="two", axes={"prune.scope": ["global", "layerwise"]}, seeds=[3, 4])
    found = gather(study.load("one", "two"))
    text = page(found)
    assert "one, two" in text
    assert [method.sweep for method in found.methods] == ["one", "two"]
    assert "5 paired seeds" in found.opening


def test_sweeps_that_cannot_be_compared_are_answered_one_by_one(study):
    axes = {"prune.scope": ["global", "layerwise"]}
    write(study, score, name="one", axes=axes)
    game = {"trainer.dataset": "game"}
    write(study, score, name="two", axes=axes, metric="return", seeds=[3, 4, 5], spec=game)
    found = gather(study.load("one", "two"))
    assert [(answer.frame.names, answer.refusal) for answer in found.answers] == [
        (("one",), ""),
        (("two",), ""),
    ]
    assert Outline(page(found)).open == []


@pytest.mark.parametrize("lineages", [3000])
def test_a_big_sweep_stays_small_and_says_what_it_leaves_out(study, lineages):
    write(
        study,
        score,
        axes={"trainer.lr": [round(1e-4 * n, 5) for n in range(1, lineages // 2 + 1)]},
        seeds=[0, 1],
        densities=lambda _: (1.0, 0.5, 0.25, 0.125, 0.0625),
        rounds=4,
    )
    text = report(study.load())
    assert len(text.encode()) < 3_000_000
    assert "500 more arms are left out" in words(text)
    assert "1,400 more lineages are left out" in words(text)
    assert "raylottery export study" in text


def test_style_script_and_template_come_with_the_package():
    folder = resources.files("raylottery.analysis.report")
    for name in ("page.html", "style.css", "script.js", "live.html", "live.css", "live.js"):
        assert (folder / name).is_file()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10 % of -1.5, p = 0.05", "10&nbsp;% of \N{MINUS SIGN}1.5, p&nbsp;=&nbsp;0.05"),
        ("run `a <b>` to -- x-3", "run <code>a &lt;b&gt;</code> to -- x-3"),
    ],
)
def test_prose_keeps_figures_whole_and_escapes(text, shown):
    assert prose(text) == shown.replace("&nbsp;", "\N{NO-BREAK SPACE}")


def test_the_command_writes_into_the_store(whole, capsys):
    assert main(["report", "study", "--store", str(whole.store)]) == 0
    place, sentence = capsys.readouterr().out.splitlines()
    written = whole.store / "sweeps" / "study" / "report.html"
    assert place == f"wrote {written}"
    assert sentence.startswith("At 20 % density global beats layerwise")
    assert written.read_text().startswith("<!doctype html>")


def test_the_command_writes_where_it_is_told(whole, tmp_path, capsys):
    file = tmp_path / "page.html"
    assert main(["report", "study", "--store", str(whole.store), "--to", str(file)]) == 0
    assert file.read_text() == report(whole.load())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["study", "--to", "/nowhere/at/all.html"], 2, "cannot write /nowhere/at/all.html"),
        (["stduy"], 3, "Did you mean 'study'?"),
        ([], 2, "nothing is given for NAMES"),
    ],
)
def test_the_command_refuses_with_the_mend(whole, capsys, arguments, code, message):
    assert main(["report", *arguments, "--store", str(whole.store)]) == code
    assert message in capsys.readouterr().err
