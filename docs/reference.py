"""Writes docs/sweep.md, the reference of the sweep file, and its JSON schema, from the models.

Run it with `python docs/reference.py`; a test compares what it would write with what is there.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from raylottery.spec import CONTROLS, DATASETS, STOP_RULES, Sweep
from raylottery.spec.dqn import MODELS
from raylottery.spec.problems import entries, kinds, sections


PAGE = Path(__file__).parent / "sweep.md"
SCHEMA = Path(__file__).parent / "sweep.schema.json"

HEAD = """# The sweep file

One YAML file says what to compare. Unknown or misspelt keys, wrong units and impossible
combinations are refused before anything starts, with file, line and the nearest valid name.
`--set prune.rounds=3` overrides any field from the command line. This page is made from the
models by `python docs/reference.py`.

Editors complete and check a sweep file by its [JSON schema](sweep.schema.json), as many do that
find `# yaml-language-server: $schema=PATH` in the first line. It knows fields, types, ranges and
names; `raylottery plan` knows the rest.

Extents are lengths with a unit: `500it` (updates), `2ep` (epochs, where a classifier is
trained), `10000ts` (environment steps) and `3sync` (target syncs, both of an agent), `5%` (of
the training length). As a whole length, or as a point to rewind to, `10000ts` counts the random
play before the first update; as a distance or a stretch it does not.

"""

ENDS = {
    "length": "never: the search is as long as the training",
    "solved": "`hold` measurements in a row reach `threshold`",
    "target": "a measurement reaches `threshold`",
    "plateau": "`patience` measurements in a row are not better than the best by over `least`",
    "patience": "the same, of validation losses that are not lower",
    "mask-distance": "the mask that pruning would give is `within` each of `window - 1` before it",
    "mask-difference": "the mask that pruning would give is `within` the one before it",
}

STOPPING = """## Stop rules

A rule ends the *search* for the next ticket: the next mask is drawn from the weights at the
stop. The training goes on to its full length, so scores of different rules are compared at
equal lengths, unless `stop.evaluate: at-stop` ends it there and then. Controls search for
nothing, and are always trained to their full length.

{rules}

A measurement is a classifier's accuracy on the validation set (its loss there for
`patience`), or the mean return of an agent's `eval.episodes`, every `eval.every`. Masks are
looked at after each epoch of a classifier and at each target sync of an agent; their distance
is the number of entries in which they differ, as a share of those that are kept. Where the
validation loss was lowest is told for every round of a classifier, without stopping anything:
`min_loss_step` and `score_at_stop` in the [tables](tables.md).

`stop.length_power` is no rule: it shortens pruned rounds, schedules and all, by their nominal
density. With `1` and a fraction of 0.2, round 3 is 0.8 ** 3 = 0.512 times as long as the dense
one.

"""

RESETTING = """## What a round resets

A pruned round of an agent finds its ticket and its clock, and everything else as if it were
the first: a fresh optimizer, an empty replay buffer that random play begins to fill, a target
network that is a copy of the rewound one under the same mask, fresh statistics of
observations, schedules that stand at the clock, and new chance. Each field of `reset` changes
one of these in every pruned round, and in controls too.

An optimizer or a replay buffer that is `kept` is part of what a round leaves behind, so such
an arm trains a dense network of its own and its records are larger. All other resets share
theirs.

"""

KEEPING = """## What is kept

Records, curves and layers of finished rounds always stay, and so do all tables. `keep` says what
of the weights stays:

| `keep` | tickets | snapshots of the dense training |
|---|---|---|
| `all` | all | all |
| `tickets` | all | none |
| `last` | of each lineage its own last one, none of controls | those that its rounds rewind to |
| `{what: last, densities: [0.2]}` | also those of the rounds nearest to these | the same |

The round nearest to a density is the one whose planned density, `(1 - prune.fraction) ** round`,
differs least from it on a log scale; of two that are equally near, the denser.

What is not kept goes while the sweep runs, as soon as its own round and every round that is
trained from it are finished, in whatever sweep of the store; what another sweep keeps stays.
Changing `keep` of a finished sweep and running it again takes away what now may go, and trains
nothing. `keep` is in no key, so it changes no result and no name.

More `prune.rounds` need the last tickets alone. A new control or arm may need tickets that went:
the rounds that left them are trained again, on a CPU with the same bits, and `plan` says how many.
A sweep that is run again with a `keep` that keeps more brings back what it had let go in the same
way. A snapshot that went is made again by training the first steps. Of two runs of one sweep at
the same time that keep different things, the one that began last has the word.

"""

TAIL = """## Axes

`axes` maps fields to lists of values; the arms are their product, and each arm is run with every
seed.

```yaml
axes:
  prune.scope: [global, layerwise]      # a product of the lists ...
  rewind.weights: [init, 1ep]
  zip:                                  # ... in which zipped lists go together
    trainer.model: [mlp-100-100, mlp-300-100]
    resources.cpus: [1, 2]              # resources are no axis, but may follow one
    resources.accelerator: [null, A100]
```

What a trial asks for changes no result and no key. `raylottery plan SWEEP --address HOST:PORT`
says how many trials of each arm a cluster holds at a time, and refuses what no machine of it has.

A sweep that gains values, seeds, rounds or controls is extended: run it again, and only what is
new is trained.
"""


def page() -> str:
    """The whole reference."""
    whole = section(Sweep, "The sweep", "") + lists() + stopping()
    return HEAD + whole + RESETTING + KEEPING + TAIL


def section(model: type[BaseModel], title: str, path: str) -> str:
    """A table of a model's fields, then the models below it, of each kind where there are some."""
    rows = [f"## {title}\n", "| field | default | |", "|---|---|---|"]
    below = ""
    for name, field in model.model_fields.items():
        full = f"{path}.{name}" if path else name
        inner = sections(field)
        help_text = re.sub(r"\s+", " ", field.description or "")
        if inner:
            rows.append(f"| `{full}` | | {help_text} See below. |")
            for part in inner:
                kind = f", kind {kinds(part)[0]}" if len(inner) > 1 else ""
                below += section(part, f"`{full}`{kind}", full)
        else:
            rows.append(f"| `{full}` | {default(field)} | {help_text}{choices(field)} |")
        if listed := entries(field):
            below += section(listed, f"An entry of `{full}`", f"{full}[]")
    return "\n".join(rows) + "\n\n" + below


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    plain = str(value).lower() if isinstance(value, bool) else value
    return f"`{list(plain) if isinstance(plain, tuple) else plain}`"


def choices(field: FieldInfo) -> str:
    """The words a field may hold, where there are only a few."""
    words = [word for word in get_args(field.annotation) if isinstance(word, str)]
    return f" One of {', '.join(f'`{word}`' for word in words)}." if words else ""


def lists() -> str:
    names = ", ".join(f"`{name}`" for name in DATASETS)
    controls = ", ".join(f"`{name}`" for name in CONTROLS)
    hidden = ", ".join(f"`{name}` {list(widths)}" for name, widths in MODELS.items())
    return (
        f"Data sets: {names}. Controls: {controls} (see [controls](controls.md)). "
        f"Default hidden layers of agents: {hidden}.\n\n"
    )


def stopping() -> str:
    rows = ["| rule | ends the search when | reads |", "|---|---|---|"]
    for rule, fields in STOP_RULES.items():
        read = ", ".join(f"`{name}`" for name in fields) or "nothing"
        rows.append(f"| `{rule}` | {ENDS[rule]} | {read} |")
    return STOPPING.format(rules="\n".join(rows))


def schema() -> str:
    """The form of a sweep file, for editors and other tools."""
    draft = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps({"$schema": draft, **Sweep.model_json_schema()}, indent=1) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    SCHEMA.write_text(schema())
