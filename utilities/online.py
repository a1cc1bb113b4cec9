"""A run at Weights & Biases: the only file that knows wandb."""

import os
from pathlib import Path
from typing import Any

from utilities.errors import UserError, reason
from utilities.logger import Summary, Values, key


class OnlineRun:
    """A Weights & Biases run. The key comes from the environment; WANDB_MODE=offline needs none.

    Raises UserError if it cannot be started.
    """

    def __init__(
        self,
        *,
        project: str,
        group: str,
        name: str,
        settings: dict,
        folder: Path,
        run_id: str | None = None,
    ):
        import wandb

        mode: Any = os.environ.get("WANDB_MODE")  # said, because wandb keeps that of its first use
        try:
            self.run = wandb.init(
                project=project,
                group=group,
                name=name,
                config=settings,
                dir=str(folder),
                id=run_id,
                resume="allow",
                mode=mode,
            )
        except Exception as error:  # wandb raises types of its own for a wrong key or no network
            raise UserError(
                f"--log_online: W&B does not start ({reason(error)}); check WANDB_API_KEY and the "
                "network, or set WANDB_MODE=offline."
            ) from error

    @staticmethod
    def require_possible() -> None:
        """Fail before any work if online logging cannot work."""
        try:
            import wandb
        except ImportError as error:
            raise UserError(
                "--log_online needs the package wandb: pip install wandb, or drop the flag."
            ) from error
        is_online = os.environ.get("WANDB_MODE", "online") in ("online", "shared")
        if is_online and not wandb.api.api_key:
            raise UserError(
                "--log_online needs a W&B key: set WANDB_API_KEY in the environment, or "
                "WANDB_MODE=offline to log without a network."
            )

    @property
    def run_id(self) -> str:
        return self.run.id

    def log(self, number: int, values: Values) -> None:
        """Values of an epoch, counted from 1, as a step of that number.

        Keys as in the paper's code: "Test: embeds_e_recall: e_recall@1", "Train: loss".
        """
        named = {}
        for split, families in values.items():
            for family, metrics in families.items():
                for metric, value in metrics.items():
                    named[f"{split}: {key(family, metric)}"] = value
        self.run.log(named, step=number)

    def log_table(self, name: str, rows: list[dict[str, object]]) -> None:
        """A table of the training split, as the step before the first epoch."""
        import wandb

        table = wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
        self.run.log({f"Train: {name}": table}, step=0)

    def summarise(self, summary: Summary) -> None:
        """The three values of each metric, e.g. "Test: embeds_nmi: nmi (at_best_val)"."""
        named = {}
        for split, metrics in summary.items():
            for metric, values in metrics.items():
                for name in ("best", "at_best_val", "last"):
                    if name in values:
                        named[f"{split}: {metric} ({name})"] = values[name]
        self.run.summary.update(named)

    def log_figures(self, number: int, split: str, figures: dict[str, Path]) -> None:
        """Pictures of a split, e.g. "Test: retrieval", beside the values of an epoch."""
        import wandb

        pictures = {f"{split}: {name}": wandb.Image(str(file)) for name, file in figures.items()}
        self.run.log(pictures, step=number)

    def finish(self, exit_code: int = 0) -> None:
        self.run.finish(exit_code=exit_code)
