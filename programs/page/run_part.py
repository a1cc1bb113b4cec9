"""What the page of a run holds, as far as its folder tells it."""

import csv
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import parameters
from programs.page import chart
from programs.page.chart import Chart, Drawing, Series
from programs.page.panels import Picture
from programs.page.text import counted, number
from programs.results import metric_names
from programs.results.runs import Curve, Run, Values
from programs.results.settings import before_resuming
from utilities.errors import UserError
from utilities.flags import in_words
from utilities.report import THREE_VALUES, duration
from utilities.rows import as_written

CLASS_TEXTS = "class_texts.csv"
MOST_CLASSES = 120  # of whose texts the page tells
MOST_TEXTS = 8  # of a class
TILES = 4  # metrics that stand at the top
SPLITS = {"Test": "test", "Val": "validation", "Train": "training"}
# Families of a training that are no losses, and their titles.
RATES = {"learning_rate": "Learning rates"}
COSTS = {
    "time": "Training, seconds an epoch",
    "images_per_second": "Images per second",
    "peak_memory": "Peak memory so far, GB",
}
EVALTYPES = ("embeds", "avg_features")


class Table(NamedTuple):
    """The first cell of a row is its header."""

    caption: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


class Tile(NamedTuple):
    """A number that stands at the top."""

    name: str
    value: str
    note: str


class ClassText(NamedTuple):
    """What guidance reads of a class. `more` counts the texts that are not shown."""

    name: str
    texts: list[str]
    more: int = 0
    picture: Picture | None = None


class ClassTexts(NamedTuple):
    """Those of some classes, and how many there are in `total`."""

    shown: list[ClassText]
    total: int

    def with_pictures(self, pictures: Mapping[str, Picture]) -> "ClassTexts":
        shown = [text._replace(picture=pictures.get(text.name)) for text in self.shown]
        return self._replace(shown=shown)


class Reproduction(NamedTuple):
    """How to run it again: lines of a shell, and what they do not say."""

    lines: list[str]
    warnings: list[str]


class RunPart(NamedTuple):
    """
    Attributes:
        state: a sentence on whether the run has ended. warnings: sentences.
        differing: settings other than the defaults; all_settings: every one.
    """

    name: str
    dataset: str
    state: str
    is_finished: bool
    warnings: list[str]
    tiles: list[Tile]
    numbers: list[Table]
    charts: list[Drawing]
    costs: list[Drawing]
    differing: Table
    all_settings: Table
    environment: Table
    reproduction: Reproduction


def read(run: Run) -> RunPart:
    """Everything but pictures and class texts. Raises UserError for tables that are no numbers."""
    values = _values(run)
    differing, all_settings = _settings(run.settings)
    return RunPart(
        run.folder.name,
        run.dataset,
        _state(run),
        run.is_finished,
        _warnings(run),
        _tiles(values),
        [_numbers(split, metrics) for split, metrics in values.items()],
        _drawings(run, with_costs=False),
        _drawings(run, with_costs=True),
        differing,
        all_settings,
        _environment(run.facts),
        _reproduction(run),
    )


def unreadable(run: Run, problem: str) -> RunPart:
    """Of a run of which no more can be said than what is wrong with it."""
    differing, all_settings = _settings(run.settings)
    nothing = Table("Environment", ("what", "value"), [])
    how = Reproduction([], [])
    name = run.folder.name
    state = "Its records cannot be read."
    return RunPart(
        name,
        run.dataset,
        state,
        False,
        [problem],
        [],
        [],
        [],
        [],
        differing,
        all_settings,
        nothing,
        how,
    )


def class_texts(folder: Path) -> ClassTexts | None:
    """What guidance reads, as class_texts.csv says; None for a run without guidance.

    Raises UserError for a file that cannot be read.
    """
    texts: dict[str, list[str]] = {}
    try:
        with (folder / CLASS_TEXTS).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                times = f" ({row['images']})" if row.get("images") else ""
                name, text = as_written(row["class"]), as_written(row["text"])
                texts.setdefault(name, []).append(text + times)
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{folder / CLASS_TEXTS} cannot be read ({error}).") from error
    shown = [
        ClassText(name, texts[name][:MOST_TEXTS], max(0, len(texts[name]) - MOST_TEXTS))
        for name in chart.at_even_steps(list(texts), MOST_CLASSES)
    ]
    return ClassTexts(shown, len(texts))


def _state(run: Run) -> str:
    if run.is_evaluation:
        return f"An evaluation of {run.facts['checkpoint']}."
    if run.is_finished:
        took = run.facts.get("seconds")
        after = f" in {duration(took)}" if isinstance(took, int | float) else ""
        when = run.facts.get("finished")
        on = f", on {str(when)[:10]}" if when else ""
        return f"Finished: {counted(run.facts.get('epochs', 0), 'epoch')}{after}{on}."
    return _as_sentence(run.progress())


def _as_sentence(text: str) -> str:
    """With a capital letter and a point, where it has no end of its own."""
    end = "" if text.endswith((".", "?", "!")) else "."
    return f"{text[:1].upper()}{text[1:]}{end}"


def _warnings(run: Run) -> list[str]:
    warnings = [_as_sentence(run.problem)] if run.problem else []
    warnings += [
        f"It was trained {time}, before it was resumed under the settings below."
        for time in before_resuming(run.facts, run.settings)
    ]
    if left_out := run.facts.get("images_left_out"):
        warnings.append(f"{counted(len(left_out), 'broken image')} stayed out of this run.")
    return warnings


def _values(run: Run) -> dict[str, dict[str, Values]]:
    """Split -> metric -> its values, the test split first; of a run that has not ended, so far."""
    if not run.is_finished:
        return _values_so_far(run)
    return {split: run.values(split) for split in SPLITS if run.values(split)}


def _values_so_far(run: Run) -> dict[str, dict[str, Values]]:
    values: dict[str, dict[str, Values]] = {}
    for split in SPLITS:
        for name, curve in _in_order(run, split):
            if not curve.epochs or name.partition(":")[0] in RATES | COSTS:
                continue
            best = min if metric_names.named_by(name).lower_is_better else max
            place = curve.values.index(best(curve.values))
            so_far = Values(
                curve.values[place], curve.epochs[place], curve.values[-1], curve.epochs[-1]
            )
            values.setdefault(split, {})[name] = so_far
    return values


def _tiles(values: Mapping[str, Mapping[str, Values]]) -> list[Tile]:
    """The first metrics of the test split."""
    metrics = list(values.get("Test", {}).items())[:TILES]
    return [
        Tile(
            metric_names.named_by(name).name, number(value.best), f"best, epoch {value.best_epoch}"
        )
        for name, value in metrics
    ]


def _numbers(split: str, metrics: Mapping[str, Values]) -> Table:
    by_column = {
        title: [_with_epoch(value._asdict(), *names[:2]) for value in metrics.values()]
        for title, names in THREE_VALUES.items()
    }
    columns = {title: cells for title, cells in by_column.items() if any(cells)}
    names = [metric_names.named_by(name).name for name in metrics]
    rows = list(zip(names, *columns.values()))
    return Table(f"The {SPLITS[split]} split", ("metric", *columns), rows)


def _with_epoch(values: Mapping[str, Any], value: str, epoch: str) -> str:
    if values[value] is None:
        return ""
    return f"{number(values[value])} (epoch {values[epoch]})"


def _drawings(run: Run, *, with_costs: bool) -> list[Drawing]:
    """Curves of metrics, losses and learning rates, or those of what the training cost."""
    charts: dict[str, list[Series]] = {}
    for split in SPLITS:
        for name, curve in _in_order(run, split):
            family, _, metric = name.rpartition(": ")
            if (family or metric in COSTS) and (family or metric) in COSTS:
                title = COSTS[family or metric] if with_costs else ""
            else:
                title = "" if with_costs else _title(split, family)
            if title and curve.epochs:
                charts.setdefault(title, []).append(_series(metric, curve))
    drawings = [chart.drawn(Chart(title, series)) for title, series in charts.items()]
    return [drawing for drawing in drawings if drawing]


def _in_order(run: Run, split: str) -> list[tuple[str, Curve]]:
    """Curves of a split by name: metrics as they were asked for, then losses, rates last."""
    asked = run.settings.get("evaluation_metrics")
    names = map(str, asked if isinstance(asked, list) else [])
    places = {name: place for place, name in enumerate(names)}

    def place(named: tuple[str, Curve]) -> int:
        family, _, metric = named[0].rpartition(": ")
        return places.get(metric, len(places) + (family in RATES))

    return sorted(run.curves.get(split, {}).items(), key=place)


def _title(split: str, family: str) -> str:
    """Of the chart that has a family of metrics; losses are families of one."""
    if not family:
        return "Losses of the training"
    if family in RATES:
        return RATES[family]
    for evaltype in EVALTYPES:
        if family.startswith(f"{evaltype}_"):
            pooled = ", pooled features" if evaltype != EVALTYPES[0] else ""
            return f"{family.removeprefix(f'{evaltype}_')}, {SPLITS[split]}{pooled}"
    return f"{family}, {SPLITS[split]}"


def _series(name: str, curve: Curve) -> Series:
    return Series(name, curve.epochs, curve.values)


def _settings(settings: Mapping[str, Any]) -> tuple[Table, Table]:
    """Those that are not what they are by default, and all."""
    differing, everything = [], []
    for name, value in settings.items():
        flag = parameters.BY_NAME.get(name)
        everything.append((f"--{name}", _word(value)))
        if flag is None:
            differing.append((f"--{name}", _word(value), "no flag of this version"))
        elif value != flag.initial():
            differing.append((f"--{name}", _word(value), _word(flag.initial())))
    return (
        Table("Settings that differ from the defaults", ("flag", "value", "default"), differing),
        Table("All settings", ("flag", "value"), everything),
    )


def _word(value: object) -> str:
    """A value as it is typed, or that there is none."""
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return in_words(value)


def _environment(facts: Mapping[str, Any]) -> Table:
    """Where it ran, on what, with what."""
    rows = [
        ("program", facts.get("program_version")),
        ("revision", facts.get("git_revision")),
        ("device", facts.get("device")),
        ("host", facts.get("host")),
        ("platform", facts.get("platform")),
        ("run folder", facts.get("run")),
        *_data(facts.get("data")),
        *_plain("weights", facts.get("weights")),
        *_plain("peak memory, GB", facts.get("peak_memory")),
        *_plain("", facts.get("versions")),
    ]
    known = [(name, str(value)) for name, value in rows if value is not None]
    return Table("Environment", ("what", "value"), known)


def _data(splits: object) -> Iterable[tuple[str, str]]:
    """A line of counts for each split."""
    for split, counts in splits.items() if isinstance(splits, dict) else ():
        if isinstance(counts, dict):
            text = ", ".join(f"{count} {thing}" for thing, count in counts.items())
            yield f"{SPLITS.get(split, split)} split", text


def _plain(title: str, values: object) -> Iterable[tuple[str, str]]:
    for name, value in values.items() if isinstance(values, dict) else ():
        text = f"{value:,}" if isinstance(value, int) else value
        text = f"{value:.2f}" if isinstance(value, float) else text
        yield f"{title}: {name}" if title else name, str(text)


def _reproduction(run: Run) -> Reproduction:
    revision, warnings = run.facts.get("git_revision"), []
    lines = []
    if isinstance(revision, str):
        lines.append(f"git checkout {shlex.quote(revision.removesuffix('-dirty'))}")
    if isinstance(revision, str) and revision.endswith("-dirty"):
        warnings.append(
            "The program had changes that no revision holds: the lines below need not give the "
            "numbers of this page."
        )
    elif not revision:
        warnings.append("The revision of the program is not known.")
    lines.append("bash requirements.sh")
    command = run.facts.get("command")
    if not command:
        command = shlex.join(["python", "main.py", "--config", str(run.folder / "args.yaml")])
    return Reproduction([*lines, _anew(str(command))], warnings)


def _anew(command: str) -> str:
    """The command without the flags by which it goes on with the run, or leaves it as it is."""
    try:
        words = shlex.split(command)
    except ValueError:  # not as a run writes it
        return command
    kept = [
        word
        for before, word in zip(["", *words], words)
        if before != "--resume"
        and word not in ("--resume", "--completed")
        and not word.startswith("--resume=")
    ]
    return command if kept == words else shlex.join(kept)
