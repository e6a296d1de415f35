"""Sweep files that cannot be meant, and the line that each is refused with."""

from __future__ import annotations

import pytest

from raylottery.errors import SpecError
from raylottery.spec import parse_sweep
from tests.unit.spec.samples import altered, refusal


def refused(*pairs: tuple[str, str]) -> list[str]:
    return refusal(altered(*pairs))


FOLDER = (
    "cannot name a folder. Use letters, digits, `.`, `_` and `-`, beginning with a letter or "
    "digit, no `..`, at most 64 characters."
)
NO_END = (
    "missing: with the clock at final nothing is left to train. Say how long to fine-tune, "
    "such as 5ep, or set clock: init."
)
SHARE = "(Share of the surviving weights that a round prunes, such as 0.2.)"
NAMES = (
    "An mlp or cnn is named by its widths, such as mlp-300-100, residual-mlp-100-100, "
    "cnn-32-64-128; others as torchvision:NAME or package.module:function."
)
WHOLE = "is not before the end of the training (15ep, 525 updates); say less."
SEEDS = "(One lineage each in every arm, such as [0, 1, 2].)"
FIELDS = (
    "kind, engine, dataset, examples, model, initialisation, length, batch_size, optimizer, lr, "
    "momentum, nesterov, weight_decay, decay_all, schedule, drops, drop_factor, warmup, "
    "label_smoothing, normalise, ..."
)
CASES = [
    # Keys
    ("scope: global", "scop: global", "10: prune.scop: no such field. Did you mean 'scope'?"),
    ("optimizer:", "optimiser:", "8: trainer.optimiser: no such field. Did you mean 'optimizer'?"),
    ("prune:", "prunes:", "10: prunes: no such field. Did you mean 'prune'?"),
    ("lr: 0.002", "lr: 0.002\n  lr: 0.1",
     "10: trainer.lr: given twice, first on line 9; keep one of them."),
    (", rounds: 3", "",
     "10: prune.rounds: missing, and it has no default. (Pruned rounds after the dense one.)"),
    ("retries: 3", "prunable: 3", "18: prunable: no such field. Did you mean 'prune'?"),
    # Names
    ("mnist1d", "minst1d", "4: trainer.dataset: no such data set: 'minst1d'. "
                           "Did you mean 'mnist1d'?"),
    ("adam", "addam", "8: trainer.optimizer: no such value: 'addam'. Did you mean 'adam'?"),
    ("kind: classifier", "kind: clasifier",
     "3: trainer.kind: no such kind: 'clasifier'. Did you mean 'classifier'?"),
    ("kind: classifier", "kind: ppo", "3: trainer.kind: no such kind: 'ppo'. "
                                      "Valid: classifier, dqn."),
    ("kind: classifier", "knid: classifier",
     "3: trainer.knid: no such field. Did you mean 'kind'?"),
    ("kind: classifier\n  ", "", "2: trainer.kind: missing, and it has no default. "
                                "(What is trained: classifier or dqn.)"),
    ("mlp-300-100", "mpl-300", "5: trainer.model: no such model: 'mpl-300'. Did you mean "
     f"'mlp-300-100'? {NAMES}"),
    ("mlp-300-100", "resnet20", "5: trainer.model: no such model: 'resnet20'. Did you mean "
     f"'resnet-20'? {NAMES}"),
    ("mlp-300-100", "cn-32-64-128", "5: trainer.model: no such model: 'cn-32-64-128'. Did you "
     f"mean 'cnn-32-64-128'? {NAMES}"),
    ("mlp-300-100", "residual-mlp100", "5: trainer.model: no such model: 'residual-mlp100'. Did "
     f"you mean 'residual-mlp-100-100'? {NAMES}"),
    ("mlp-300-100", "residual-mlp-300-100", "5: trainer.model: 'residual-mlp-300-100' cannot add "
     "its layers: a residual-mlp has at least two hidden layers, all of one width, such as "
     "residual-mlp-100-100."),
    ("scope-and-rewind", "a/b", f"1: name: 'a/b' {FOLDER}"),
    ("scope-and-rewind", "a..b", f"1: name: 'a..b' {FOLDER}"),
    ("scope-and-rewind", "..", f"1: name: '..' {FOLDER}"),
    ("scope-and-rewind", "x" * 65, f"1: name: '{'x' * 56}... {FOLDER}"),
    ("scope-and-rewind", "2", "1: name: expected text, found 2. "
                              "(Name of the sweep and of its folder in the store.)"),
    # Lengths
    ("15ep", "10000ts", "6: trainer.length: 10000ts is in environment steps, which cannot be "
                        "counted here. Units: it, ep."),
    ("15ep", "50%", "6: trainer.length: 50% is in percent of the training, which cannot be "
                    "counted here. Units: it, ep."),
    ("15ep", "15", "6: trainer.length: 15 is no extent: a number and its unit, such as 500it, "
                   "2ep or 5%."),
    ("15ep", "0it", "6: trainer.length: a training of 0it trains nothing; say how long, such as "
                    "15ep."),
    ("15ep", "0.01ep", "6: trainer.length: 0.01ep comes to no update at all; say at least 1it."),
    ("retries: 3", "eval: {every: 1ts}", "18: eval.every: 1ts is in environment steps, which "
                                         "cannot be counted here. Units: it, ep, %."),
    ("retries: 3", "eval: {every: 200%}", "18: eval.every: 200% is longer than the training "
                                          "(15ep, 525 updates); say at most 100%."),
    ("retries: 3", "eval: {every: 0.01%}", "18: eval.every: 0.01% of the training (15ep, "
     "525 updates) comes to no update at all; say at least 1it."),
    # Numbers
    ("fraction: 0.2", "fraction: 1.2", f"10: prune.fraction: must be below 1, not 1.2. {SHARE}"),
    ("fraction: 0.2", "fraction: 1", f"10: prune.fraction: must be below 1, not 1. {SHARE}"),
    ("fraction: 0.2", "fraction: 0", f"10: prune.fraction: must be above 0, not 0. {SHARE}"),
    ("fraction: 0.2", "fraction: 20%",
     f"10: prune.fraction: expected a number, found '20%'. {SHARE}"),
    ("rounds: 3", "rounds: 0",
     "10: prune.rounds: must be at least 1, not 0. (Pruned rounds after the dense one.)"),
    ("rounds: 3", "rounds: 2.5",
     "10: prune.rounds: expected a whole number, found 2.5. (Pruned rounds after the dense one.)"),
    ("rounds: 3", "rounds: true",
     "10: prune.rounds: expected a whole number, found true. "
     "(Pruned rounds after the dense one.)"),
    ("lr: 0.002", "lr: .nan",
     "9: trainer.lr: expected a finite number, found nan. (Learning rate.)"),
    ("lr: 0.002", "lr:", "9: trainer.lr: expected a number, found nothing. (Learning rate.)"),
    ("batch_size: 100", "batch_size: 3501", "7: trainer.batch_size: a batch of 3501 is more than "
                                            "the 3500 training examples of mnist1d; say "
                                            "at most that."),
    ("gpus: 0", "gpus: 1.5", "17: resources.gpus: above 1, GPUs come in whole numbers, not 1.5; "
                             "say 1 or 2."),
    # Lists
    ("seeds: [0, 1]", "seeds: [0, 0]", "12: seeds[1]: the seed 0 is listed twice; take one out."),
    ("seeds: [0, 1]", "seeds: []",
     f"12: seeds: expected at least one entry, found []. {SEEDS}"),
    ("seeds: [0, 1]", "seeds: 3", f"12: seeds: expected a list, found 3. {SEEDS}"),
    ("seeds: [0, 1]", "seeds: [-1]", f"12: seeds[0]: must be at least 0, not -1. {SEEDS}"),
    ("seeds: [0, 1]", "seeds:\n- 0\n- 2147483648",
     f"14: seeds[1]: must be below 2147483648, not 2147483648. {SEEDS}"),
    ("[random-ticket]", "[random-ticket, random-ticket]",
     "16: controls[1]: the control random-ticket is listed twice; take one out."),
    ("[random-ticket]", "[random-tiket]",
     "16: controls[0]: no such control: 'random-tiket'. Did you mean 'random-ticket'?"),
    ("prune: {score: magnitude, scope: global, fraction: 0.2, rounds: 3}", "prune: 3",
     "10: prune: expected a section with fields of its own, found 3. (What each round prunes.)"),
    # Combinations
    ("lr: 0.002", "lr: 0.002\n  momentum: 0.9", "10: trainer.momentum: adam has no momentum of "
     "its own to set; leave it out, or take optimizer: sgd."),
    ("{weights: init}", "{weights: final}", f"11: rewind.retrain: {NO_END}"),
    ("{weights: init}", "{clock: final}", f"11: rewind.retrain: {NO_END}"),
    ("{weights: init}", "{weights: final, retain: 5ep}",
     "11: rewind.retain: no such field. Did you mean 'retrain'?"),
    ("{weights: init}", "{weights: final, clock: 1ep, retrain: 5ep}", "11: rewind.retrain: a "
     "round whose clock goes back to 1ep trains from there to the end. Leave retrain out, or set "
     "clock: final."),
    ("{weights: init}", "{weights: final, retrain: 0.0001%}", "11: rewind.retrain: 0.0001% of "
     "the training (15ep, 525 updates) comes to no update at all; say at least 1it."),
    ("{weights: init}", "{weights: final, retrain: 0ts}", "11: rewind.retrain: 0ts is in "
     "environment steps, which cannot be counted here. Units: it, ep, %."),
    ("{weights: init}", "{retrain: 0it}", "11: rewind.retrain: a round whose clock goes back to "
     "init trains from there to the end. Leave retrain out, or set clock: final."),
    ("{weights: init}", "{weights: 525it}", "11: rewind.weights: 525it is not before the end of "
     "the training (15ep, 525 updates); for its end say final."),
    ("{weights: init}", "{weights: first}", "11: rewind.weights: 'first' is no point to rewind "
     "to: init, final, or an extent as 1ep."),
    # Axes
    ("prune.scope:", "prune.skope:",
     "14: axes.prune.skope: no such field. Did you mean 'prune.scope'?"),
    ("prune.scope:", "scope:", "14: axes.scope: no such field. Did you mean 'prune.scope'?"),
    ("prune.scope:", "prune:", "14: axes.prune: a section is no axis; vary one of prune.score, "
     "prune.scope, prune.fraction, prune.output, prune.conv, prune.exclude, prune.only, "
     "prune.biases."),
    ("prune.scope: [global, layerwise]", "prune.rounds: [1, 2]", "14: axes.prune.rounds: cannot "
     "be an axis: all arms go equally far; set prune.rounds itself."),
    ("prune.scope: [global, layerwise]", "seeds: [1, 2]", "14: axes.seeds: cannot be an axis: "
     "every arm has every seed; set seeds itself."),
    ("prune.scope: [global, layerwise]", "name: [a]",
     "14: axes.name: cannot be an axis: a sweep has one name."),
    ("prune.scope: [global, layerwise]", "controls: [reinit]", "14: axes.controls: cannot be an "
     "axis: every arm has every control; set controls itself."),
    ("prune.scope: [global, layerwise]", "checkpoint: [1ep]", "14: axes.checkpoint: cannot be an "
     "axis: it changes no result; set checkpoint itself."),
    ("prune.scope: [global, layerwise]", "retries: [1]", "14: axes.retries: cannot be an axis: it "
     "changes no result; set retries itself."),
    ("prune.scope: [global, layerwise]", "cohort: [1, 2]", "14: axes.cohort: cannot be an axis: "
     "it changes no result; set cohort itself."),
    ("retries: 3", "cohort: 0", "18: cohort: 0 is no number of lineages: auto, or one such as 8."),
    ("retries: 3", "cohort: all", "18: cohort: 'all' is no number of lineages: auto, or one such "
     "as 8."),
    ("retries: 3", "cohort: 4", "18: cohort: the engine torch trains one lineage at a time; leave "
     "it out, or say trainer.engine: compiled."),
    ("prune.scope: [global, layerwise]", "timeout: [1h]", "14: axes.timeout: cannot be an "
     "axis: it changes no result; set timeout itself."),
    ("retries: 3", "timeout: 30", "18: timeout: 30 is no duration: a number and its unit (s, m, "
     "h, d), such as 30m."),
    ("retries: 3", "timeout: 30min", "18: timeout: no unit of a duration: 'min'. Did you mean "
     "'m'?"),
    ("retries: 3", "timeout: 0.5s", "18: timeout: 0.5s is none at all: a number and its unit (s, "
     "m, h, d), such as 30m."),
    ("gpus: 0}", "memory: 2}", "17: resources.memory: 2 is no size: a number and its unit (B, KB, "
     "MB, GB, TB, KiB, MiB, GiB, TiB), such as 2GB."),
    ("gpus: 0}", "memory: 2gb}", "17: resources.memory: no unit of a size: 'gb'. Valid: B, KB, "
     "MB, GB, TB, KiB, MiB, GiB, TiB."),
    ("prune.scope: [global, layerwise]", "resources.gpus: [0, 1]", "14: axes.resources.gpus: no "
     "axis of its own; let it follow another under `zip:`."),
    ("[global, layerwise]", "[]",
     "14: axes.prune.scope: an axis without values has no arms; list some, or take it out."),
    ("[global, layerwise]", "global",
     "14: axes.prune.scope: expected a list of values, found 'global'."),
    ("[global, layerwise]", "[global, erk, global]",
     "14: axes.prune.scope[2]: 'global' is listed twice; take one out."),
    ("[global, layerwise]", "[globl, layerwise]",
     "14: axes.prune.scope[0]: no such value: 'globl'. Did you mean 'global'?"),
    ("  rewind.weights: [init, 1ep]", "  prune.scope: [erk]",
     "15: axes.prune.scope: given twice, first on line 14; keep one of them."),
    ("  rewind.weights: [init, 1ep]", "  zip: {prune.scope: [erk]}",
     "15: axes.zip.prune.scope: this axis is given twice, alone and in zip; take one out."),
    ("  rewind.weights: [init, 1ep]", "  zip: {trainer.lr: [1, 2], prune.fraction: [0.5]}",
     "15: axes.zip: paired lists have one length, but trainer.lr has 2, prune.fraction has 1."),
    ("  rewind.weights: [init, 1ep]", "  zip: {}",
     "15: axes.zip: pairs nothing; list values by field, or take it out."),
    ("  rewind.weights: [init, 1ep]", "  zip: [trainer.lr]",
     "15: axes.zip: expected lists of values by field, found ['trainer.lr']."),
    ("[init, 1ep]", "[init, 20ts]", "15: axes.rewind.weights[1]: 20ts is in environment steps, "
     "which cannot be counted here. Units: it, ep, %."),
    ("[init, 1ep]", "[init, final]",
     f"13: axes: arm scope=global weights=final: rewind.retrain: {NO_END}"),
    ("axes:\n  prune.scope: [global, layerwise]\n  rewind.weights: [init, 1ep]\n", "axes:\n",
     "13: axes: expected a mapping, found nothing. (Lists of values by field, such as "
     "`prune.scope: [global, layerwise]`; `zip:` pairs lists.)"),
]  # fmt: skip


IMAGES = ("mnist1d", "cifar10")
ADDED = [
    # What is said in the place of the line of the learning rate, and of what data
    ((), "examples: 200", "10: trainer.examples: mnist1d has the size it has; leave it out, or "
     "say dataset: cifar-like."),
    ((("mnist1d", "cifar-like"),), "examples: 99", "10: trainer.examples: must be at least 100, "
     "not 99. (Training examples of generated data (cifar-like), 5000 unless set; a tenth "
     "validate. As many are tested, but at most 1000.)"),
    ((("mnist1d", "cifar-like"),), "examples: 110", "7: trainer.batch_size: a batch of 100 is "
     "more than the 99 training examples of cifar-like; say at most that."),
    ((("mlp-300-100", "vgg-16"),), "", "5: trainer.model: vgg-16 looks at images, and mnist1d "
     "has none; say an mlp-..."),
    ((("mlp-300-100", "cnn-8-16"),), "", "5: trainer.model: cnn-8-16 looks at images, and mnist1d "
     "has none; say an mlp-..."),
    ((), "initialisation: he",
     "10: trainer.initialisation: no such value: 'he'. Valid: torch, glorot, kaiming."),
    ((), "nesterov: true",
     "10: trainer.nesterov: looks ahead along the momentum; set momentum too."),
    ((), "nesterov: 1", "10: trainer.nesterov: expected true or false, found 1. (Whether the "
     "momentum of sgd looks ahead.)"),
    ((), "decay_all: some", "10: trainer.decay_all: expected true or false, found 'some'. "
     "(Whether norms and biases decay with the weights.)"),
    ((), "schedule: cosin",
     "10: trainer.schedule: no such value: 'cosin'. Did you mean 'cosine'?"),
    ((), "drops: [5ep]", "10: trainer.drops: go together: schedule: drops, and drops: [80ep, "
     "120ep] or the like."),
    ((), "schedule: drops", "2: trainer.drops: go together: schedule: drops, and drops: [80ep, "
     "120ep] or the like."),
    ((), "schedule: drops\n  drops: [5ep, 5ts]", "11: trainer.drops[1]: 5ts is in environment "
     "steps, which cannot be counted here. Units: it, ep, %."),
    ((), "schedule: drops\n  drops: [5ep, 525it]", f"11: trainer.drops[1]: 525it {WHOLE}"),
    ((), "schedule: drops\n  drops: [5ep, 2ep]",
     "11: trainer.drops: come one after the other; sort them, each once."),
    ((), "schedule: drops\n  drops: [1ep, 35it]",
     "11: trainer.drops: come one after the other; sort them, each once."),
    ((), "drop_factor: 1", "10: trainer.drop_factor: must be below 1, not 1. (drops: what it is "
     "multiplied by there.)"),
    ((), "drop_factor: 0.2",
     "10: trainer.drop_factor: goes with schedule: drops; leave it out."),
    ((), "schedule: cosine\n  drop_factor: 0.2",
     "11: trainer.drop_factor: goes with schedule: drops; leave it out."),
    ((), "warmup: 5sync", "10: trainer.warmup: 5sync is in target syncs, which cannot be counted "
     "here. Units: it, ep, %."),
    ((), "warmup: 15ep", f"10: trainer.warmup: 15ep {WHOLE}"),
    ((), "label_smoothing: 1", "10: trainer.label_smoothing: must be below 1, not 1. (Share of "
     "each label that is spread over all classes.)"),
    ((), "normalise: unit",
     "10: trainer.normalise: is for images, and mnist1d has none; leave it out."),
    ((IMAGES,), "normalise: units",
     "10: trainer.normalise: no such value: 'units'. Did you mean 'unit'?"),
    ((), "augment: flip-crop",
     "10: trainer.augment: is for images, and mnist1d has none; leave it out."),
    ((IMAGES,), "augment: flip-crp",
     "10: trainer.augment: no such value: 'flip-crp'. Did you mean 'flip-crop'?"),
    ((), "precision: fp16",
     "10: trainer.precision: no such value: 'fp16'. Did you mean 'bf16'?"),
    ((), "channels_last: 1", "10: trainer.channels_last: expected true or false, found 1. "
     "(Whether images lie in memory pixel by pixel, which is faster.)"),
    ((), "compile: 1", "10: trainer.compile: expected true or false, found 1. (Whether "
     "torch.compile is used, once a lineage; on a CPU it rarely pays.)"),
]  # fmt: skip


@pytest.mark.parametrize(("pairs", "said", "message"), ADDED)
def test_a_fault_in_how_a_classifier_trains_is_named_with_its_line(pairs, said, message):
    assert refused(*pairs, ("lr: 0.002", f"lr: 0.002\n  {said}")) == [f"study.yaml:{message}"]


def test_a_late_drop_does_not_hide_a_long_warmup():
    said = "lr: 0.002\n  warmup: 200%\n  schedule: drops\n  drops: [1ep, 15ep]"
    assert refused(("lr: 0.002", said)) == [
        f"study.yaml:10: trainer.warmup: 200% {WHOLE}",
        f"study.yaml:12: trainer.drops[1]: 15ep {WHOLE}",
    ]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("conv: 1", "must be below 1, not 1. (Share that convolutions lose under scope layerwise, "
         "such as 0.1; `fraction` unless set.)"),
        ("exclude: fc", "expected a list, found 'fc'. (Parameters that are never pruned, by name "
         "or pattern, such as [fc.*, '*.downsample.*'].)"),
        ("only: layer1", "expected a list, found 'layer1'. (Of those that may be pruned, the "
         "ones that lose weights, such as [layer1.*].)"),
        ("only: []", "expected at least one entry, found []. (Of those that may be pruned, the "
         "ones that lose weights, such as [layer1.*].)"),
    ],
)  # fmt: skip
def test_a_fault_in_what_is_pruned_is_named(said, message):
    key = said.partition(":")[0]
    [line] = refused(("rounds: 3", f"rounds: 3, {said}"))
    assert line == f"study.yaml:10: prune.{key}: {message}"


def test_a_mask_drawn_over_all_layers_leaves_none_whole():
    changes = ("rounds: 3", "rounds: 3, only: ['0']"), ("[random-ticket]", "[random-global]")
    [line] = refused(*changes)
    assert line.endswith(
        "controls[0]: random-global is drawn over all layers, and prune.only keeps some whole; "
        "take random-ticket."
    )


@pytest.mark.parametrize(("old", "new", "message"), CASES)
def test_a_fault_is_named_with_its_line_and_its_mend(old, new, message):
    assert refused((old, new)) == [f"study.yaml:{message}"]


def test_arms_that_mean_the_same_are_both_named():
    assert refused(("[init, 1ep]", "[init, 0it]"), ("[global, layerwise]", "[global]")) == [
        "study.yaml:13: axes: the arms `scope=global weights=init` and `scope=global weights=0it` "
        "mean the same; keep one of them."
    ]


@pytest.mark.parametrize(
    ("axis", "one", "other"),
    [
        ("rewind.weights: [1ep, 35it]", "weights=1ep", "weights=35it"),
        ("trainer.lr: [1, 1.0]", "lr=1.0", "lr=1.0"),
        ("prune.output: [half, full]", "output=half", "output=full"),  # says nothing under global
        ("rewind.clock: [null, init]", "clock=none", "clock=init"),
        ("trainer.length: [15ep, 525it]", "length=15ep", "length=525it"),
        ("zip: {resources.cpus: [1, 2]}", "base", "base"),
    ],
)
def test_arms_that_only_look_different_are_refused(axis, one, other):
    [line] = refused(
        ("  prune.scope: [global, layerwise]\n  rewind.weights: [init, 1ep]", f"  {axis}")
    )
    assert line == (
        f"study.yaml:13: axes: the arms `{one}` and `{other}` mean the same; keep one of them."
    )


def test_a_fault_of_some_arms_names_the_first_of_them():
    sgd = ("optimizer: adam", "optimizer: sgd")
    axes = ("[global, layerwise]", "[erk]\n  trainer.optimizer: [sgd, adam]")
    [line] = refused(sgd, axes, ("[init, 1ep]", "[init]\n  trainer.momentum: [0, 0.9]"))
    assert line == (
        "study.yaml:17: axes.trainer.momentum[1]: adam has no momentum of its own to set; "
        "leave it out, or take optimizer: sgd. "
        "(arm scope=erk optimizer=adam weights=init momentum=0.9)"
    )


def test_all_faults_of_a_file_are_listed_in_its_order():
    assert refused(
        ("mnist1d", "minst1d"),
        ("lr: 0.002", "lr: -1\n  lambda: 3"),
        ("rounds: 3", "round: 3"),
        ("[global, layerwise]", "[]"),
        ("controls: [random-ticket]", "controls: [random, reinit, reinit2]"),
        ("retries: 3", "retries: 1.5"),
    ) == [
        "study.yaml:4: trainer.dataset: no such data set: 'minst1d'. Did you mean 'mnist1d'?",
        "study.yaml:9: trainer.lr: must be above 0, not -1. (Learning rate.)",
        f"study.yaml:10: trainer.lambda: no such field. Valid: {FIELDS}.",
        "study.yaml:11: prune.round: no such field. Did you mean 'rounds'?",
        "study.yaml:15: axes.prune.scope: an axis without values has no arms; list some, "
        "or take it out.",
        "study.yaml:17: controls[0]: no such control: 'random'. Did you mean 'erk-random'?",
        "study.yaml:17: controls[2]: no such control: 'reinit2'. Did you mean 'reinit'?",
        "study.yaml:19: retries: expected a whole number, found 1.5. "
        "(How often a failed trial starts again, from its last finished round.)",
    ]


def test_very_many_faults_are_cut_short():
    extra = "\n".join(f"x{i}: 1" for i in range(30))
    lines = refused(("retries: 3", extra))
    assert len(lines) == 21
    assert lines[-1] == "... and 10 more."


def test_a_file_with_nothing_right_asks_for_what_a_sweep_needs():
    with pytest.raises(SpecError) as caught:
        parse_sweep("nmae: x\n", "study.yaml")
    lines = str(caught.value).splitlines()
    assert "study.yaml:1: nmae: no such field. Did you mean 'name'?" in lines
    assert not [line for line in lines if " name: missing" in line]
    for field in ("trainer", "prune", "seeds"):
        assert [line for line in lines if f": {field}: missing, and it has no default." in line]
