"""Weights & Biases: a project for the sweep, in it a run for each lineage, under the lineage's id.

A row is logged for each finished round and each of its controls, with `round` as the axis of every
chart. W&B's own step only counts rows: it cannot go back, and a control may be done long after the
rounds that follow its ticket. Which rounds a run shows is in its summary, which a resumed run gets
from the server. An offline run has no server: it is written when its lineage is done or cut off,
and what it shows is noted beside W&B's folders.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raylottery.driver.provenance import without_credentials
from raylottery.driver.track import Step
from raylottery.errors import NotFoundError, UsageError
from raylottery.spec import Lineage


if TYPE_CHECKING:
    import wandb

KEY = "WANDB_API_KEY"
PROJECT = re.compile(r"([\w-]+/)?[^/\\#?%:.][^/\\#?%:]{0,127}")
SHOWN = "rounds"
"""What a run's summary calls the rounds that it shows."""
QUIET: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "x_disable_stats": True,
    "x_disable_meta": True,  # it has the command line
    "x_save_requirements": False,
    "stop_fn": lambda: None,  # or the button that stops a run would interrupt the sweep
}
PATIENCE: dict[str, Any] = {
    "init_timeout": 20,
    "finish_timeout": 60,
    "finish_timeout_raises": True,
}
TRIES = 20
"""How often a run asks the server again; whether it answers at all, before, only once."""
LONGEST = 128
"""What a server takes as the name of a run or of a group."""
MOST = 30
"""Runs that are open at a time; each has a thread of wandb's."""
CUT_OFF = 255
"""The exit code that wandb itself gives a run that Ctrl-C ended."""


class WandB:
    """A project of a W&B server, or offline runs in a folder of this machine."""

    name = "wandb"

    def __init__(self, project: str):
        if not PROJECT.fullmatch(project):
            raise UsageError(
                f"--track wandb:{project}: expected PROJECT or ENTITY/PROJECT, without any of "
                f"\\ # ? % : and with 128 characters at most"
            )
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb
        except ImportError as error:
            raise UsageError(
                f"--track wandb: {error.name} is not installed; pip install 'raylottery[wandb]'"
            ) from error
        self.entity, _, self.project = project.rpartition("/")
        self.held: dict[str, tuple[Lineage, list[Step]]] = {}
        """By lineage what its run was told, or is to be told, since it last was whole."""
        self.open: dict[str, wandb.Run] = {}
        self.shown: dict[str, set[str]] = {}
        settings = wandb.setup(wandb.Settings(**QUIET, **PATIENCE, x_graphql_retry_max=1)).settings
        if settings.mode not in ("online", "offline"):
            raise UsageError(
                f"--track wandb: WANDB_MODE={settings.mode} is no mode for it; use online or "
                f"offline"
            )
        self.offline = settings.mode == "offline"
        self.notes = Path(settings.wandb_dir) / "raylottery" / project
        try:
            self.notes.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"--track wandb: {self.notes} cannot be made: {error.strerror}. Name another "
                f"folder with WANDB_DIR"
            ) from error
        if self.offline:
            self.look = f"wandb sync {settings.wandb_dir}"
        else:
            self.look = f"project {project} at {settings.base_url}"
            self._knock(settings.base_url)

    def tell(self, lineage: Lineage, steps: Sequence[Step], *, complete: bool) -> None:
        held = self.held.setdefault(lineage.id, (lineage, []))[1]
        held += steps
        try:
            if complete or not self.offline:
                self._show(lineage.id)
            if complete:
                self._end(lineage.id, exit_code=0)
            elif len(self.open) > MOST:
                self._end(next(iter(self.open)), exit_code=CUT_OFF)
        except Exception:
            self._leave()  # wandb takes no id again whose run it once failed to start
            raise

    def close(self) -> None:
        """A run that is not complete was cut off; it goes on when its lineage does."""
        try:
            for id in list(self.held):
                self._show(id)
                self._end(id, exit_code=CUT_OFF)
        finally:
            self._leave()

    def _knock(self, server: str) -> None:
        """Prove that the server takes the key."""
        import wandb

        mend = "or set WANDB_MODE=offline, and upload with `wandb sync` later"
        if not os.environ.get(KEY):
            raise NotFoundError(
                f"--track wandb: there is no key for {server}: set {KEY} in the environment, "
                f"{mend}"
            )
        try:
            wandb.login(prompt=False)
        except wandb.Error as error:
            first = without_credentials(str(error).strip().splitlines()[0])
            raise NotFoundError(
                f"--track wandb: {first}. Check {KEY} and WANDB_BASE_URL, {mend}"
            ) from error

    def _show(self, id: str) -> None:
        """Log what a lineage's run does not show."""
        lineage, steps = self.held[id]
        if self.offline:
            self.shown[id] = self._noted(id)
            if all(row(step) in self.shown[id] for step in steps):
                return
        run = self.open.pop(id, None) or self._begin(lineage)
        self.open[id] = run
        shown = self.shown[id]
        for step in steps:
            if row(step) not in shown:
                run.log({"round": step.number, **step.values})
                shown.add(row(step))
        run.summary[SHOWN] = " ".join(sorted(shown))

    def _begin(self, lineage: Lineage) -> wandb.Run:
        """A lineage's run, new or resumed."""
        import wandb

        arm = lineage.arm
        settings = wandb.Settings(**QUIET, **PATIENCE, x_graphql_retry_max=TRIES)
        wandb.setup(settings)  # for init's own would have it speak until they are read
        run = wandb.init(
            entity=self.entity or None,
            project=self.project,
            id=lineage.id,
            name=short(f"{arm.label}, seed {lineage.seed}", lineage.id),
            group=short(arm.label, arm.id),
            config={**arm.values, "seed": lineage.seed},
            resume="allow",
            reinit="create_new",
            settings=settings,
        )
        run.define_metric("round")
        run.define_metric("*", step_metric="round")
        if not self.offline:
            self.shown[lineage.id] = set(run.summary.get(SHOWN, "").split())
            self.look = run.project_url or self.look
        return run

    def _end(self, id: str, *, exit_code: int) -> None:
        """Finish a lineage's run, which waits for the server to have all of it."""
        run = self.open.pop(id, None)
        if run is not None:
            run.finish(exit_code=exit_code)
            note = self.notes / id
            note.write_text(" ".join(sorted(self.shown[id])))
        del self.held[id]

    def _leave(self) -> None:
        """End wandb's service and threads, and with them what is open."""
        import wandb

        self.open.clear()
        with contextlib.suppress(SystemExit):  # where the service did not end well
            wandb.teardown()

    def _noted(self, id: str) -> set[str]:
        note = self.notes / id
        return set(note.read_text().split()) if note.exists() else set()


def row(step: Step) -> str:
    """The word for a row: `3` of a ticket, `random-ticket/3` of a control."""
    series, slash, _ = next(iter(step.values)).rpartition("/")
    return f"{series}{slash}{step.number}"


def short(name: str, id: str) -> str:
    """A name that is not too long; where it would be, told from others by an id."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - len(id) - 1]} {id}"
