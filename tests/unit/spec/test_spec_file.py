from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.errors import SpecError
from raylottery.spec import dump_sweep, expand, parse_sweep, read_sweep
from raylottery.spec.yaml12 import NotYaml, dump, load
from tests.unit.spec.samples import AGENT, STUDY, altered, study


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("2E5", 200000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-3", -3),
        ("010", 10),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("~", None),
        ("null", None),
        ("", None),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("=", "="),
        ("<<", "<<"),
        ("5%", "5%"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = load(f"a: {text}").value["a"]
    assert found == value
    assert type(found) is type(value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)
    | st.sampled_from(
        ["1e-3", "on", "yes", "~", "null", "010", "1_0", "12:30", ".inf", "+1", "-"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abcxyz1.-~ :#", max_size=6), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(plain)
@settings(deadline=None, max_examples=200)
def test_what_is_written_is_read_again(value):
    assert load(dump(value)).value == value


@given(st.one_of(st.text("01.eE+-_:xabINF", max_size=8), st.sampled_from(["on", "yes", "No"])))
@settings(deadline=None, max_examples=200)
def test_text_is_written_so_that_other_readers_take_it_for_text_too(text):
    assert yaml.safe_load(dump([text])) == [text]


def test_lines_are_those_of_keys_and_entries():
    document = load("a: 1\nb:\n  c: [1,\n      2]\n  d: {e: 1,\n      f: 2}\n")
    assert document.lines == {
        (): 1, ("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", 0): 3, ("b", "c", 1): 4,
        ("b", "d"): 5, ("b", "d", "e"): 5, ("b", "d", "f"): 6,
    }  # fmt: skip


def test_aliases_stand_for_what_they_name():
    assert load("a: &x [1, {b: 2}]\nc: *x").value == {"a": [1, {"b": 2}], "c": [1, {"b": 2}]}


CHAIN = "\n".join(["a0: &a0 [1]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 3000))])
BOMB = "\n".join(
    ["a0: &a0 [1]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 15))]
)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: [1", 2, "not YAML: while parsing a flow sequence expected ',' or ']', "
                            "but got '<stream end>'."),
        ("a: 1\n\tb: 2", 2, "not YAML: while scanning for the next token found character '\\t' "
                            "that cannot start any token."),
        ("a: *x", 1, "not YAML: found undefined alias 'x'."),
        ("a: 1\nb: &a [*a]", 2, "an alias stands inside what it names, which never ends."),
        ("a: !!set {x}", 1, "the tag tag:yaml.org,2002:set has no place in a sweep file."),
        ("a: !!str 12", 1, "the tag tag:yaml.org,2002:str has no place in a sweep file."),
        ("!!int 1: 2", 1, "a key is a plain name, not a list or a mapping."),
        ("a: !!python/name:os.system", 1,
         "the tag tag:yaml.org,2002:python/name:os.system has no place in a sweep file."),
        ("a: 1\nb: \x00", 2, "not YAML: special characters are not allowed."),
        ("[" * 3000, 1, "not YAML: nested too deep."),
        ("- " * 3000, 1, "not YAML: nested too deep."),
        ("a: {" * 3000, 1, "not YAML: nested too deep."),
        (CHAIN, 1, "nested too deep."),
        (BOMB, 1, "its aliases make more than 100000 values of it."),
        ("a: " + "9" * 5000, 1, "a number of 5000 digits."),
        ("{[1, 2]: 3}", 1, "a key is a plain name, not a list or a mapping."),
        ('"a\\u001b[31m": 1', 1, "the key 'a\\x1b[31m' cannot be printed."),
        ("a: 1\n---\nb: 2", 2, "not YAML: expected a single document in the stream "
                               "but found another document."),
        ("a" * 200_001, None, "longer than 200000 characters, which no sweep file is."),
        ('a: "\\UFFFFFFFF"', None,
         "not YAML: Python int too large to convert to C int."),
    ],
)  # fmt: skip
def test_what_is_no_yaml_of_a_sweep(text, line, message):
    with pytest.raises(NotYaml) as caught:
        load(text)
    assert (str(caught.value), caught.value.line) == (message, line)
    with pytest.raises(SpecError) as refused:
        parse_sweep(text, "study.yaml")
    assert str(refused.value) == f"study.yaml:{line}: {message}".replace(":None:", ":")


@pytest.mark.parametrize(
    ("text", "place", "found"),
    [
        ("- name: x", "study.yaml:1", "found [{'name': 'x'}]."),
        ("hello", "study.yaml:1", "found 'hello'."),
        ("\n\n3", "study.yaml:3", "found 3."),
        ("", "study.yaml", "it is empty."),
        ("# nothing yet\n", "study.yaml", "it is empty."),
        ("~", "study.yaml:1", "it is empty."),
    ],
)
def test_yaml_that_is_no_mapping(text, place, found):
    with pytest.raises(SpecError) as caught:
        parse_sweep(text, "study.yaml")
    assert str(caught.value) == (
        f"{place}: a sweep file is a mapping of fields such as `name:` and `trainer:`, but {found}"
    )


@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("axes={}",),
        ("name=1e-3x", "trainer.lr=1e-30"),
        ("axes.zip={rewind.clock: [init, 5%], prune.biases: [true, false]}",),
        ("axes.rewind.weights=[final]", "rewind={clock: final, retrain: 0.5ep}"),
    ],
)
def test_a_sweep_is_written_out_and_read_again(sets):
    sweep = study(sets=sets)
    text = dump_sweep(sweep)
    assert parse_sweep(text) == sweep
    assert dump_sweep(parse_sweep(text)) == text
    assert list(parse_sweep(text).axes) == list(sweep.axes)


@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("axes={}",),
        ("trainer.hidden=null", "trainer.env_args={gravity: 9.8, names: [a, '1', 2, true, null]}"),
        ("axes.trainer.hidden=[null, [], [8], [8, 8]]",),
        ("axes.trainer.env_args=[{}, {gravity: 9.8}, {gravity: 1.6}]",),
        ("axes.zip={stop.rule: [target, length], stop.threshold: [475, null]}",),
    ],
)
def test_a_sweep_of_agents_is_written_out_and_read_again(sets):
    sweep = parse_sweep(AGENT, "agent.yaml", sets)
    text = dump_sweep(sweep)
    assert parse_sweep(text) == sweep
    assert dump_sweep(parse_sweep(text)) == text
    assert expand(parse_sweep(text)) == expand(sweep)


def test_a_name_that_looks_like_a_number_survives():
    sweep = study(("name: scope-and-rewind", "name: '1e3'"))
    assert sweep.name == "1e3"
    assert parse_sweep(dump_sweep(sweep)) == sweep


def test_a_sweep_is_written_with_every_default():
    written = yaml.safe_load(dump_sweep(study()))
    assert written["eval"] == {
        "every": "5%", "episodes": 5, "final": 20, "window": 100, "supermask": False,
    }  # fmt: skip
    assert written["stop"]["rule"] == "length"
    assert written["reset"]["replay"] == "empty"
    assert written["rewind"] == {"weights": "init", "clock": None, "retrain": None}
    assert written["trainer"]["threads"] == 1
    assert written["axes"]["rewind.weights"] == ["init", "1ep"]


def test_overrides_replace_fields_sections_and_axes():
    sweep = study(
        sets=(
            "prune.rounds=7",
            "trainer.lr=1e-3",
            "seeds=[4]",
            "eval.every=10%",
            "axes={prune.fraction: [0.1]}",
            "axes.prune.scope=[erk, global]",
            "prune.rounds=8",
        )
    )
    assert (sweep.prune.rounds, sweep.trainer.lr, sweep.seeds) == (8, 0.001, (4,))
    assert str(sweep.eval.every) == "10%"
    assert sweep.axes == {"prune.fraction": (0.1,), "prune.scope": ("erk", "global")}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prune.rounds=0", "--set prune.rounds: must be at least 1, not 0. "
                           "(Pruned rounds after the dense one.)"),
        ("prune.roundz=3", "--set prune.roundz: no such field. Did you mean 'rounds'?"),
        ("prun.rounds=3", "--set prun.rounds: prun: no such field. Did you mean 'prune'?"),
        ("foo=3", "--set foo: no such field. Valid: name, trainer, prune, rewind, eval, stop, "
                  "reset, seeds, axes, controls, resources, cohort, checkpoint, retries, "
                  "timeout, keep."),
        ("name.x=3", "--set name.x=3: 'scope-and-rewind' has no fields; x cannot be set."),
        ("prune.rounds", "--set prune.rounds: expected KEY=VALUE, such as prune.rounds=3."),
        ("=3", "--set =3: expected KEY=VALUE, such as prune.rounds=3."),
        ("prune.scope=erk",
         "--set prune.scope: every arm sets this by axes.prune.scope; override that instead."),
        ("axes.prune.scope=[globl]", "--set axes.prune.scope: axes.prune.scope[0]: "
                                     "no such value: 'globl'. Did you mean 'global'?"),
        ("axes.prune.skope=[erk]",
         "--set axes.prune.skope: no such field. Did you mean 'prune.scope'?"),
        ("prune.rounds=[", "--set prune.rounds=[: not YAML: while parsing a flow node expected "
                           "the node content, but found '<stream end>'."),
        ("prune={rounds: 1, rounds: 2}", "--set prune={rounds: 1, rounds: 2}: rounds: "
                                         "given twice, first on line 1; keep one of them."),
    ],
)  # fmt: skip
def test_overrides_that_cannot_be_meant(override, message):
    with pytest.raises(SpecError) as caught:
        study(sets=(override,))
    assert str(caught.value) == message


def test_faults_of_the_file_and_of_overrides_are_listed_together():
    with pytest.raises(SpecError) as caught:
        parse_sweep(altered(("lr: 0.002", "lr: x")), "study.yaml", ("prune.rounds=0",))
    assert str(caught.value).splitlines() == [
        "study.yaml:9: trainer.lr: expected a number, found 'x'. (Learning rate.)",
        "--set prune.rounds: must be at least 1, not 0. (Pruned rounds after the dense one.)",
    ]


def test_a_file_is_read_wherever_it_lies(weird_path):
    path = weird_path / "my sweep.yaml"
    path.write_text("\ufeff" + STUDY, encoding="utf-8")
    assert read_sweep(path) == study()
    assert read_sweep(str(path), ["prune.rounds=9"]).prune.rounds == 9
    path.write_text(altered(("scope: global", "scop: global")), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        read_sweep(path)
    assert str(caught.value) == f"{path}:10: prune.scop: no such field. Did you mean 'scope'?"
    assert (caught.value.file, caught.value.line) == (str(path), 10)
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_there(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    with pytest.raises(SpecError) as caught:
        read_sweep(tmp_path / "studi.yaml")
    assert str(caught.value) == f"{tmp_path}/studi.yaml: no such file. Did you mean 'study.yaml'?"
    with pytest.raises(SpecError, match=r"x\.yaml: no such file\.$"):
        read_sweep(tmp_path / "no" / "folder" / "x.yaml")


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(SpecError, match=r"bytes\.yaml: cannot be read as text: .+\."):
        read_sweep(tmp_path / "bytes.yaml")
    with pytest.raises(SpecError, match="is a folder; name a sweep file in it"):
        read_sweep(tmp_path)
