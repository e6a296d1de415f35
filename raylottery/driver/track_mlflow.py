"""MLflow: an experiment for the sweep, in it a run for each lineage, found again by its tag."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from raylottery.driver.provenance import without_credentials
from raylottery.driver.track import Step
from raylottery.errors import NotFoundError, UsageError
from raylottery.spec import Lineage


ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the end of the run, and the next run, ask again
}
TAG = "raylottery.lineage"
MOST = 500
"""Metrics to a request; servers take a thousand at most."""


class MLflow:
    """An MLflow server, or a database such as sqlite:///mlflow.db."""

    name = "mlflow"

    def __init__(self, uri: str | None, sweep: str, store: str):
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            import mlflow

            self.place = without_credentials(uri or mlflow.get_tracking_uri())
            if self.place.startswith("sqlite:"):
                import alembic  # noqa: F401 (mlflow's own message would not say what is missing)
                import sqlalchemy  # noqa: F401
        except ImportError as error:
            raise UsageError(
                f"--track mlflow: {error.name} is not installed; pip install 'raylottery[mlflow]'"
            ) from error
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self.store = without_credentials(store)
        self.look = f"experiment {sweep} at {self.place}"
        self.runs: dict[str, str] = {}
        """MLflow's ids by lineage."""
        self.shown: dict[str, set[tuple[str, int]]] = {}
        self.open: set[str] = set()
        with self._answering():
            self.client = mlflow.MlflowClient(tracking_uri=uri)
            self.experiment = self._experiment(sweep)

    def tell(self, lineage: Lineage, steps: Sequence[Step], *, complete: bool) -> None:
        from mlflow.entities import Metric

        if lineage.id not in self.runs:
            self._begin(lineage, steps[0])
        run, shown = self.runs[lineage.id], self.shown[lineage.id]
        metrics = [
            Metric(name, value, round(1000 * step.at), step.number)
            for step in steps
            for name, value in step.values.items()
            if (name, step.number) not in shown
        ]
        if metrics and lineage.id not in self.open:
            self.client.update_run(run, status="RUNNING")
            self.open.add(lineage.id)
        for i in range(0, len(metrics), MOST):
            self.client.log_batch(run, metrics=metrics[i : i + MOST])
            shown |= {(metric.key, metric.step) for metric in metrics[i : i + MOST]}
        if complete and lineage.id in self.open:
            self.client.set_terminated(run, "FINISHED", round(1000 * steps[-1].at))
            self.open.remove(lineage.id)

    def close(self) -> None:
        """A run that is not complete was cut off; it goes on when its lineage does."""
        for id in self.open:
            self.client.set_terminated(self.runs[id], "KILLED")
        self.open.clear()

    def _experiment(self, sweep: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(sweep)
        if found is None:
            try:
                return self.client.create_experiment(sweep)
            except MlflowException:  # another driver was first
                found = self.client.get_experiment_by_name(sweep)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise UsageError(
                f"--track mlflow: the experiment {sweep} at {self.place} is deleted; restore it, "
                f"or give the sweep another `name:`"
            )
        return found.experiment_id

    def _begin(self, lineage: Lineage, first: Step) -> None:
        """Find a lineage's run, or make it, and what it shows."""
        found = self.client.search_runs(
            [self.experiment], f"tags.`{TAG}` = '{lineage.id}'", max_results=1
        )
        arm = lineage.arm
        run = found[0] if found else self.client.create_run(
            self.experiment,
            start_time=round(1000 * first.at),
            run_name=f"{arm.label}, seed {lineage.seed}",
            tags={TAG: lineage.id, "raylottery.arm": arm.id, "raylottery.store": self.store},
        )  # fmt: skip
        self._describe(run, {**arm.values, "seed": lineage.seed}, arm.label)
        self.shown[lineage.id] = {
            (name, metric.step)
            for name in run.data.metrics
            for metric in self.client.get_metric_history(run.info.run_id, name)
        }
        if run.info.status == "RUNNING":
            self.open.add(lineage.id)
        self.runs[lineage.id] = run.info.run_id

    def _describe(self, run: Any, values: dict[str, Any], label: str) -> None:
        """A sweep that gained an axis has more parameters and another label."""
        from mlflow.entities import Param, RunTag

        new = [Param(k, str(v)) for k, v in values.items() if k not in run.data.params]
        self.client.log_batch(
            run.info.run_id, params=new, tags=[RunTag("raylottery.group", label)]
        )

    @contextmanager
    def _answering(self) -> Generator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, ImportError) as error:
            first = without_credentials(str(error).strip().splitlines()[0])
            raise NotFoundError(
                f"--track mlflow: {self.place} does not answer: {first} Check the address, or "
                f"name another: --track mlflow:URI, such as sqlite:///mlflow.db"
            ) from error
