"""Checkpoints: tensors and plain values only, read with `weights_only=True`.

They are written to a temporary name first.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch

from utilities import durable, environment, processes, run_folder, signals, tensor_file
from utilities.errors import UserError, reason
from utilities.fingerprint import differences
from utilities.logger import RunLog
from utilities.types import Stateful

LOG = logging.getLogger(__name__)
REQUIRED = {"state_dict", "optimizer", "scheduler"}
# What can be turned on when a run is resumed: guidance, fp16, a memory, an average, a rise.
MAY_BEGIN_LATER = ("guide", "scaler", "memory", "ema", "rise")
# Under another value of these the stored tensors mean nothing.
FIXED = ("dataset", "arch", "embed_dim", "lora_rank", "lora_alpha", "loss", "optim")
PLAIN = ("settings", "epoch", "history", "seconds", "wandb_id")


class Checkpoint(NamedTuple):
    """A checkpoint read from `path`; `tensors` holds the state of each part by name.

    `epoch` is the last that was ended, -1 for none. `within` holds the state of the one that was
    begun after it, None between two epochs; `data` is the fingerprint of what it was trained on,
    None in older ones; `earlier` is as of `earlier_settings`, `program` of `environment.program`.
    """

    path: Path
    tensors: dict
    epoch: int
    settings: dict
    history: dict
    seconds: float
    wandb_id: str | None
    data: dict | None = None
    within: dict | None = None
    earlier: Sequence[dict] = ()
    program: Mapping[str, str] = MappingProxyType({})

    def losses(self) -> list[float]:
        """Of each epoch that is done."""
        return self.history.get("Train", {}).get("loss", {}).get("loss", [])

    @property
    def evaluated(self) -> str:
        """The part that holds the weights by which the run was measured.

        They are the averaged ones of a run with `--ema`, beside those that go on learning.
        """
        return "ema" if self.tensors.get("ema") else "state_dict"

    def stage(self) -> str:
        """How much training it holds, e.g. "after 2 epochs and 5 steps"."""
        done, steps = self.epoch + 1, f" and {self.steps():,} steps" if self.within else ""
        return f"after {done} epoch{'' if done == 1 else 's'}{steps}"

    @property
    def has_steps_left(self) -> bool:
        """Whether the epoch that was begun was left before its last step, not after it."""
        return self.within is not None and not self.within["training"]["is_over"]

    def steps(self) -> int:
        """Of the epoch that was begun."""
        return self.within["training"]["meter"]["steps"] if self.within else 0

    def steps_of_run(self, of_epoch: int) -> int:
        """Of all epochs, each of so many."""
        return (self.epoch + 1) * of_epoch + self.steps()


def snapshot(
    states: dict[str, dict],
    *,
    settings: dict,
    epoch: int,
    history: dict,
    seconds: float,
    wandb_id: str | None,
    data: dict | None = None,
    within: dict | None = None,
) -> dict:
    """All that a run needs to go on: the state of each part by its name, and plain values.

    What its settings were before comes with its records, as `earlier`.
    """
    return {
        **states,
        "settings": settings,
        "epoch": epoch,
        "history": history,
        "seconds": seconds,
        "wandb_id": wandb_id,
        "data": data,
        "within": within,
    }


class Training(Stateful, Protocol):
    """An epoch's steps; between two of them its state is whole."""

    number: int
    is_between_steps: bool

    @property
    def steps(self) -> int: ...


class Keeper:
    """Writes the checkpoints of a run: what is the same in all of them is said once.

    Args:
        states: gives the state of each part by its name.
        records: whose folder, history and W&B id are meant.
        settings, data: as in a `Checkpoint`.
        minutes: between two checkpoints within an epoch; 0 for none.
        started: of `time.monotonic()`, when the run began, earlier where it was resumed.
    """

    def __init__(
        self,
        states: Callable[[], dict[str, dict]],
        records: RunLog,
        *,
        settings: dict,
        data: dict,
        minutes: float,
        started: float,
    ):
        self.states, self.records = states, records
        self.settings, self.data = settings, data
        self.minutes, self.started = minutes, started
        self.program = environment.program()
        self.last_kept = time.monotonic()

    @contextmanager
    def within(self, training: Training, sampler: Stateful) -> Iterator[None]:
        """An epoch is gone through inside; told to stop there, the run keeps what it has of it."""
        self.begun, self.steps_kept = (training, sampler), training.steps
        try:
            yield
        except (KeyboardInterrupt, signals.Stopped):
            signals.end()
            try:
                if training.is_between_steps:
                    processes.after_main(self._keep_at_last)
            finally:  # a second Ctrl-C waits for nothing
                self._say_what_is_kept(training)
            raise

    def _keep_at_last(self) -> None:
        """What cannot be written then is told; the checkpoint before it is still there."""
        try:
            self.keep_begun()
        except UserError as error:
            LOG.warning("%s", error)

    def _say_what_is_kept(self, training: Training) -> None:
        kept, epoch = self.steps_kept, training.number + 1
        lost = training.steps - kept + (not training.is_between_steps)
        if kept and not lost:
            LOG.info("%d steps of epoch %d are kept in the last checkpoint.", kept, epoch)
        elif kept:
            LOG.warning(
                "Of epoch %d, %d steps are kept in the last checkpoint; %d more were made or begun "
                "and are lost.",
                epoch,
                kept,
                lost,
            )
        elif lost:
            LOG.warning(
                "Nothing of epoch %d is kept; the steps made or begun (%d) are lost.", epoch, lost
            )

    def keep_begun(self) -> None:
        """Write the last checkpoint within the epoch."""
        training, sampler = self.begun
        within = {"training": training.state_dict(), "sampler": sampler.state_dict()}
        self._write(training.number - 1, within)
        self.steps_kept = training.steps

    def keep_if_due(self) -> None:
        """The same where `minutes` have passed since there was a checkpoint."""
        if 0 < self.minutes <= (time.monotonic() - self.last_kept) / 60:
            self.keep_begun()

    def keep(self, epoch: int, improved: Iterable[Path] = ()) -> None:
        """Write the last checkpoint at the end of an epoch, and those that are the best so far."""
        self._write(epoch, also=improved)

    def _write(self, epoch: int, within: dict | None = None, also: Iterable[Path] = ()) -> None:
        """Of several processes, in which all is the same, the first writes."""
        if processes.is_main():
            state = self._snapshot(epoch, within)
            with signals.held():
                for path in [*also, self.records.folder / run_folder.LAST_CHECKPOINT]:
                    save(path, state)
        self.last_kept = time.monotonic()

    def _snapshot(self, epoch: int, within: dict | None) -> dict:
        state = snapshot(
            self.states(),
            settings=self.settings,
            epoch=epoch,
            history=self.records.history,
            seconds=time.monotonic() - self.started,
            wandb_id=self.records.online_id,
            data=self.data,
            within=within,
        )
        return state | {"earlier": list(self.records.earlier), "program": self.program}


def save(path: Path, state: dict) -> None:
    """Write a snapshot; a reader sees the old file or the new one.

    Raises UserError for a disk that takes no more.
    """
    with durable.written(path, f"The checkpoint {path}") as temporary:
        torch.save(state, temporary)


def changes(stored: dict, settings: dict) -> dict[str, str]:
    """The settings that differ, each with both values; what only one side knows does not."""
    return {
        name: f"--{name} {stored[name]} (here {value})"
        for name, value in settings.items()
        if stored.get(name, value) != value
    }


def earlier_settings(
    checkpoint: Checkpoint, given_up: dict[str, object], program: dict[str, str]
) -> list[dict[str, object]]:
    """For each time that a run was resumed under other settings, what they were before.

    How many epochs, and steps of the next, it had by then, the values that were given up, and
    what of the program was another: now `given_up` and `program`.
    """
    if not given_up and not program:
        return list(checkpoint.earlier)
    done = {"epochs": checkpoint.epoch + 1, "steps": checkpoint.steps()}
    return [*checkpoint.earlier, {**done, "settings": given_up, "program": program}]


def other_program(checkpoint: Checkpoint) -> dict[str, str]:
    """What of the program the checkpoint has of another revision or version, which is told."""
    here = environment.program()
    other = {name: value for name, value in checkpoint.program.items() if here.get(name) != value}
    if other:
        stated = [f"{name} {value} (here {here.get(name)})" for name, value in other.items()]
        LOG.info("Resuming by another program than the checkpoint's %s.", ", ".join(stated))
    return other


def find(resume: str, save_path: str, dataset: str, savename: str) -> Checkpoint | None:
    """The checkpoint of `--resume PATH|FOLDER|auto`; None where auto finds none."""
    path: Path | None = run_folder.checkpoint_at(resume)
    if resume == "auto":
        path = run_folder.latest_checkpoint(save_path, dataset, savename)
    return load(path) if path else None


def require_fitting(checkpoint: Checkpoint, settings: dict, free: Collection[str]) -> None:
    """Tell the settings that differ, but for the free ones.

    Raises UserError for one that cannot be changed.
    """
    path, differing = checkpoint.path, changes(checkpoint.settings, settings)
    if fixed := [change for name, change in differing.items() if name in FIXED]:
        raise UserError(
            f"--resume {path} was trained with {', '.join(fixed)}; give the settings of that run "
            "(--config with its args.yaml), or start anew without --resume."
        )
    if changed := [change for name, change in differing.items() if name not in free]:
        LOG.info("Resuming under other settings than the checkpoint's %s.", ", ".join(changed))


def require_same_data(
    checkpoint: Checkpoint, data: dict, texts: dict, measured: Mapping[str, dict]
) -> None:
    """Raises UserError where the training split is another than the checkpoint's.

    Other texts that guide, and other images that are measured, are told.

    Args:
        data: fingerprint of the training split. texts: digests of files, by their names.
            measured: fingerprints of the other evaluated splits, by their titles.
    """
    _tell_other_texts(checkpoint, texts)
    _tell_other_measured(checkpoint, measured)
    if checkpoint.data is None or not (other := differences(checkpoint.data, data)):
        return
    if set(other) <= {"other file sizes", "other file contents"}:
        what = other[0].removeprefix("other file ")
        raise UserError(
            f"--resume {checkpoint.path} was trained on other files of the same names and classes: "
            f"their {what} differ, as of images that were written again, whose pixels may be "
            "others. "
            "Give the files of that run, or start anew from its weights: --arch_weights "
            f"{checkpoint.path} without --resume."
        )
    raise UserError(
        f"--resume {checkpoint.path} was trained on other images: {', '.join(other)}; give the "
        "data of that run, or start anew without --resume."
    )


def _tell_other_texts(checkpoint: Checkpoint, texts: dict) -> None:
    """A warning where files of texts say something else than when the checkpoint was written."""
    if other := differences(checkpoint.data or {}, texts):
        LOG.warning(
            "--resume %s was guided by %s until now: their files have changed.",
            checkpoint.path,
            " and ".join(other),
        )


def _tell_other_measured(checkpoint: Checkpoint, measured: Mapping[str, dict]) -> None:
    """Warnings where a resumed run goes on to be measured on other images than before.

    It goes on all the same: nothing is learnt from them.
    """
    stored = (checkpoint.data or {}).get("measured", {})
    for title, images in measured.items():
        if other := differences(stored.get(title, images), images):
            LOG.warning(
                "--resume %s was measured on other %s images until now: %s. Values of epochs "
                "before do not compare with those from here on, nor does the best of them all.",
                checkpoint.path,
                title,
                ", ".join(other),
            )


def tell_other_data(checkpoint: Checkpoint, data: dict, texts: dict) -> None:
    """Warnings where an evaluated network's classes have other images or texts than in training.

    Of other classes nothing is told: they are asked for.

    Args:
        data: fingerprint of the training split. texts: digests of what the metrics read.
    """
    stored = checkpoint.data or {}
    if stored.get("class names") != data["class names"]:
        return
    if other := differences(stored, data):
        LOG.warning(
            "--evaluate_only %s was trained on other images of these classes: %s. What is measured "
            "here need not be what its run has measured.",
            checkpoint.path,
            ", ".join(other),
        )
    if other := differences(stored, texts):
        LOG.warning(
            "--evaluate_only %s was guided by %s than metrics are measured with: their files have "
            "changed.",
            checkpoint.path,
            " and ".join(other),
        )


def load(path: Path, flag: str = "--resume") -> Checkpoint:
    """Raises UserError, naming the flag, for a file that is no checkpoint of this program."""
    try:
        state = tensor_file.read(path, whole=True)
        plain = {name: state.pop(name) for name in PLAIN}
        if missing := REQUIRED - state.keys():
            raise KeyError(f"without {', '.join(sorted(missing))}")
        _require_plain(plain)
        data, within = state.pop("data", None), state.pop("within", None)
        earlier, program = state.pop("earlier", []), state.pop("program", {})
        if not isinstance(data, dict | None):
            raise TypeError("data says nothing of images")
        if not isinstance(earlier, list) or not all(isinstance(time, dict) for time in earlier):
            raise TypeError("earlier says nothing of settings")
        if not isinstance(program, dict):
            raise TypeError("program says nothing of versions")
        _require_begun(plain["epoch"], within)
    except Exception as error:  # torch raises many types for a foreign or damaged file
        raise UserError(
            f"{flag} {path} is not a checkpoint of this program ({_first_line(error)})."
        ) from error
    told = {"data": data, "within": within, "earlier": earlier, "program": program}
    return Checkpoint(path=path, tensors=state, **told, **plain)


def restore(parts: dict[str, Stateful], checkpoint: Checkpoint, flag: str = "--resume") -> None:
    """Put the stored state into each part by its name.

    Raises UserError, naming the flag, if one does not fit.
    """
    for name, part in parts.items():
        if name in MAY_BEGIN_LATER and not checkpoint.tensors.get(name):
            continue
        try:
            part.load_state_dict(checkpoint.tensors[name])
        except Exception as error:  # KeyError, RuntimeError, ValueError: by part
            raise UserError(
                f"{flag} {checkpoint.path} does not fit these settings ({name}: {reason(error)})."
            ) from error


def restore_begun(checkpoint: Checkpoint, training: Stateful, sampler: Stateful) -> None:
    """Go on within the epoch that the checkpoint's run had begun.

    The sampler may be of other settings where it has no batch of it to give any more. Raises
    UserError if something does not fit.
    """
    begun = checkpoint._replace(tensors=checkpoint.within or {})
    drawing = {"sampler": sampler} if checkpoint.has_steps_left else {}
    restore({"training": training} | drawing, begun)


def _require_plain(plain: dict) -> None:
    """Raises TypeError for values that this program does not write."""
    kinds = {"settings": dict, "epoch": int, "history": dict, "seconds": int | float}
    for name, kind in kinds.items():
        if not isinstance(plain[name], kind):
            raise TypeError(f"{name} is {plain[name]!r}"[:100])
    if not -1 <= plain["epoch"] < 10**9:
        raise ValueError(f"epoch is {plain['epoch']}")
    for split, families in plain["history"].items():
        for metrics in families.values():
            for name, series in metrics.items():
                _require_series(f"{split}: {name}", series)


def _require_series(name: str, series: object) -> None:
    """Raises TypeError for what is no list of numbers."""
    if not isinstance(series, list) or not all(type(value) in (int, float) for value in series):
        raise TypeError(f"history holds no numbers of {name}")


def _require_begun(epoch: int, within: dict | None) -> None:
    """Raises KeyError, TypeError or ValueError where there is nothing to go on with."""
    if within is None and epoch < 0:
        raise ValueError(f"epoch is {epoch}")
    if within is not None and not isinstance(within["training"]["meter"]["steps"], int):
        raise TypeError("within holds no number of steps")
    if within is not None and not isinstance(within["training"]["is_over"], bool):
        raise TypeError("within does not say whether the epoch is over")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
