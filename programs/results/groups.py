"""Runs by dataset, group and seed, and which of them are left out of that."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from programs.results import settings
from programs.results.runs import Run
from utilities.errors import UserError, named, on_one_line

WITHOUT = "without effect"  # a setting in a run that makes no use of it
Key = tuple[str, str]  # dataset and group
Seeds = dict[int, Run]  # in the order of their numbers


class Chosen(NamedTuple):
    """
    Attributes:
        groups: finished runs, one for each seed. left_out: a sentence for all other runs.
    """

    groups: dict[Key, Seeds]
    left_out: list[str]


def choose(runs: Iterable[Run], *, evaluations: bool = False) -> Chosen:
    """The finished runs; of several of one group and seed the newest.

    Args:
        evaluations: those of --evaluate_only are taken too, as groups of their own.
    """
    runs = list(runs)
    evaluated = [] if evaluations else [run for run in runs if run.is_evaluation]
    trained = [run for run in runs if evaluations or not run.is_evaluation]
    unfit = {run.folder: reason for run in trained if (reason := _reason_against(run))}
    left_out = [f"{run.place}: {unfit[run.folder]}." for run in trained if run.folder in unfit]
    if evaluated:
        places = named([run.place for run in evaluated])
        left_out.append(f"{len(evaluated)} made by --evaluate_only (--evaluations): {places}.")
    candidates: dict[Key, dict[int, list[Run]]] = {}
    for run in trained:
        if run.folder not in unfit and run.seed is not None:
            group = candidates.setdefault((run.dataset, run.group), {})
            group.setdefault(run.seed, []).append(run)
    groups: dict[Key, Seeds] = {}
    for key, seeds in candidates.items():
        groups[key] = {seed: _newest(seeds[seed]) for seed in sorted(seeds)}
        left_out += [_of_older(key, seed, seeds[seed]) for seed in sorted(seeds) if seeds[seed][1:]]
    return Chosen(groups, left_out)


def in_words(key: Key) -> str:
    """A group in a sentence."""
    return on_one_line("/".join(key))


def _reason_against(run: Run) -> str:
    if run.problem:
        return on_one_line(run.problem.removesuffix("."))
    if not run.is_finished:
        return _progress(run)
    return "" if run.seed is not None else "its settings say no seed"


def _progress(run: Run) -> str:
    try:
        return run.progress().removesuffix(".")
    except UserError as error:  # its tables are damaged
        return on_one_line(f"not finished. {error}".removesuffix("."))


def _newest(runs: Sequence[Run]) -> Run:
    """The last one by time, then by place."""
    return max(reversed(runs), key=lambda run: run.finished_at)


def _of_older(key: Key, seed: int, runs: Sequence[Run]) -> str:
    newest = _newest(runs)
    older = [run for run in runs if run is not newest]
    sentence = (
        f"{in_words(key)}, seed {seed}, has {len(runs)} finished runs: the newest counts, "
        f"{newest.place}, not {named([run.place for run in older])}"
    )
    differing = named(_differing(newest, older), settings.SHOWN_SETTINGS)
    return f"{sentence}; they differ in {differing}." if differing else f"{sentence}."


def _differing(newest: Run, older: Sequence[Run]) -> list[str]:
    """Settings, and what is evaluated, in which runs of one seed differ."""
    runs = [newest, *older]
    made_of = dict(enumerate(settings.effective(run.settings) for run in runs))
    values = {
        f"--{name}": list(of_runs.values()) for name, of_runs in settings.within(made_of).items()
    }
    values["the checkpoint"] = [run.evaluated for run in runs]
    return [_beside(name, *of_runs) for name, of_runs in values.items() if len(set(of_runs)) > 1]


def _beside(name: str, newest: str, *older: str) -> str:
    """ "--lr 0.2 (there 0.1 or 0.3)"; "" is no effect."""
    others = dict.fromkeys(value or WITHOUT for value in older if value != newest)
    return f"{name} {newest or WITHOUT} (there {' or '.join(others)})"
