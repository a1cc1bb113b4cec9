"""The runs that a sweep file stands for, each of them checked before the first begins."""

import itertools
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import parameters
from programs.sweeping import settings
from programs.sweeping.document import Document, Place
from programs.sweeping.machine import names_one_gpu
from utilities.flags import abridged, nearest, read_command_line
from utilities.run_names import NAMED_BY_GROUP

MAIN = Path(__file__).resolve().parents[2] / "main.py"
KEYS = (
    "settings",
    "variants",
    "seeds",
    "datasets",
    "baseline",
    "jobs",
    "gpus",
    "slurm",
    "wandb",
)
VARIANTS = "variants"


@dataclass(frozen=True)
class Planned:
    """A run of main.py.

    Attributes:
        entry: of `datasets`, empty without. words: the flags that state its settings.
        own: names of the settings that its variant states.
    """

    entry: str
    variant: str
    settings: parameters.Settings
    words: list[str]
    own: frozenset[str]

    @property
    def name(self) -> str:
        """Of its run folder."""
        return parameters.run_name_of(self.settings)

    @property
    def label(self) -> str:
        return f"{self.settings.dataset}/{self.name}"

    @property
    def group(self) -> str:
        return str(self.settings.group)

    def command(self, resume: str | None, python: str = sys.executable) -> list[str]:
        """What starts it, or goes on with it; a finished run then ends at once."""
        going_on = ["--resume", resume] if resume else []
        return [python, _main(), *self.words, "--completed", *going_on]

    def shown(self, resume: str | None) -> str:
        """The command as it is typed into a shell."""
        return shlex.join(parameters.without_secrets(self.command(resume, "python")))


@dataclass(frozen=True)
class Study:
    """What a sweep file says.

    Attributes:
        runs: seed by seed, so that the first seed of all is there first.
        baseline: a variant, None for no comparison with one.
        slurm, wandb: options of these two, by name; those of SLURM as they are typed, None for a
            bare option.
    """

    file: Path
    runs: list[Planned]
    baseline: str | None
    jobs: int | None
    gpus: list[str] | None
    slurm: dict[str, str | None]
    wandb: dict[str, Any]


class _Layer(NamedTuple):
    """Settings and the place of the file where they stand."""

    place: Place
    values: dict[str, Any]


class _Draft(NamedTuple):
    """A run before its settings are checked; `seed` is None where the file has no seeds."""

    entry: str
    variant: str
    seed: int | None
    layers: list[_Layer]

    def values(self) -> dict[str, Any]:
        named: dict[str, Any] = {"dataset": self.entry} if self.entry else {}
        for layer in self.layers:
            named |= layer.values
        return named if self.seed is None else named | {"seed": self.seed}

    def own(self) -> frozenset[str]:
        """Names of the settings that the variant states, here or on all datasets."""
        layers = [layer for layer in self.layers if layer.place[-2:-1] == (VARIANTS,)]
        return frozenset(itertools.chain(*(layer.values for layer in layers)))

    def place_of(self, names: Sequence[str]) -> Place:
        """Where one of some settings is stated last, or else where the variant is."""
        for layer in reversed(self.layers):
            if stated := [name for name in names if name in layer.values]:
                return (*layer.place, stated[0])
        return ("seeds",) if "seed" in names else ("variants", self.variant)


def read(path: Path, further: Sequence[str] = ()) -> Study:
    """The study of a file.

    Args:
        further: flags that each run gets behind its own, and over them.

    Raises WrongFile with all that is wrong with it.
    """
    document = Document(path)
    names_at_top = [name for name in document.mapping() if name not in settings.KNOWN]
    document.require_known(names_at_top, KEYS)
    _point_to_settings(document)
    _require_free(document, further)
    drafts = list(_drafts(document))
    names = _groups(drafts)
    runs = [_checked(document, draft, name, further) for draft, name in zip(drafts, names)]
    _require_apart(document, runs)
    study = Study(
        path,
        runs,
        _baseline(document),
        _jobs(document),
        _gpus(document),
        _slurm(document),
        document.mapping("wandb"),
    )
    document.require_sound()
    return study


def _main() -> str:
    """As it is typed in the current folder."""
    return MAIN.name if Path.cwd() == MAIN.parent else str(MAIN)


def _point_to_settings(document: Document) -> None:
    for name in document.mapping():
        if name in settings.KNOWN:
            document.wrong(f"{name} is a setting of main.py: put it below settings.", name)


def _require_free(document: Document, further: Sequence[str]) -> None:
    """Nothing behind -- that the sweep itself says, or that a flag of the file would take."""
    if further and not further[0].startswith("--"):
        document.wrong(f"behind --: {further[0]} belongs to no flag; flags begin with two hyphens.")
    for name in (word.partition("=")[0].removeprefix("--") for word in further):
        if why := settings.OWN.get(name):
            document.wrong(f"behind --: --{name} is not given to a sweep: {why}.")


def _drafts(document: Document) -> Iterator[_Draft]:
    """Each run of the file, seed by seed."""
    pairs = _pairs(document)
    for seed in _seeds(document, list(itertools.chain(*pairs.values()))):
        for (entry, variant), layers in pairs.items():
            yield _Draft(entry, variant, seed, layers)


def _pairs(document: Document) -> dict[tuple[str, str], list[_Layer]]:
    """(dataset, variant) -> their settings, what is more general first."""
    common = _layer(document, "settings")
    variants = {name: _layer(document, "variants", name) for name in document.mapping("variants")}
    if not variants:
        document.wrong("variants must name at least one, as 'name: {flag: value}'.", "variants")
    pairs = {}
    for entry in _entries(document) or [""]:
        above = [common, *([_layer(document, "datasets", entry)] if entry else [])]
        within = _variants_of(document, entry, variants) if entry else {}
        for name, variant in variants.items():
            pairs[entry, name] = [*above, variant, *within.get(name, [])]
    return pairs


def _layer(document: Document, *place: str) -> _Layer:
    without = (VARIANTS,) if place[0] == "datasets" and len(place) == 2 else ()
    return _Layer(place, settings.read(document, *place, without=without))


def _entries(document: Document) -> list[str]:
    """The names of the datasets, which may stand in a list."""
    listed = document.at("datasets")
    if isinstance(listed, list) and all(isinstance(name, str) for name in listed):
        return list(dict.fromkeys(listed))
    return list(document.mapping("datasets"))


def _variants_of(
    document: Document, entry: str, variants: Mapping[str, _Layer]
) -> dict[str, list[_Layer]]:
    """Settings that variants have on one dataset only."""
    place = ("datasets", entry, VARIANTS)
    if isinstance(document.at("datasets", entry), str):
        return {}
    for name in document.mapping(*place):
        if name not in variants:
            hint = nearest(name, variants)
            document.wrong(f"there is no variant {abridged(name)}{hint}.", *place, name)
    return {name: [_layer(document, *place, name)] for name in document.mapping(*place)}


def _seeds(document: Document, layers: Sequence[_Layer]) -> list[int | None]:
    """Those of the file, or none, where each variant has its own."""
    stated = document.at("seeds")
    if stated is None:
        return [None]
    for layer in layers:
        if "seed" in layer.values:
            document.wrong("seed: the seeds of all runs stand in seeds.", *layer.place, "seed")
    if not isinstance(stated, list) or not stated or not all(type(seed) is int for seed in stated):
        document.wrong("seeds must be a list of whole numbers, as [0, 1, 2].", "seeds")
        return []
    if len(set(stated)) < len(stated):
        document.wrong("seeds holds a seed twice.", "seeds")
    return list(dict.fromkeys(stated))


def _groups(drafts: Sequence[_Draft]) -> list[str]:
    """The name of the variant, with that of the dataset where the names of runs would be alike.

    Runs lie in a folder of their dataset anyhow, but several datasets may be of one kind.
    """
    places = {(draft.values().get("dataset"), draft.variant, draft.seed) for draft in drafts}
    if len(places) == len(drafts):
        return [draft.variant for draft in drafts]
    return [f"{draft.entry}_{draft.variant}" for draft in drafts]


def _checked(document: Document, draft: _Draft, group: str, further: Sequence[str]) -> Planned:
    """The run of a draft; whatever main.py would refuse is told to the document."""
    replaced, _ = read_command_line(parameters.FLAGS, further)  # what is wrong there is told below
    stated = {name: value for name, value in draft.values().items() if name not in replaced}
    words = [*settings.as_words(settings.over_config(stated)), *further]
    words += settings.as_words({"group": group})
    examined, problems = parameters.examine(words)
    for sentence in problems:
        _tell(document, draft, sentence, further)
    own = _not_of_config(examined)
    if own:
        words += own
        examined, _ = parameters.examine(words)
    return Planned(draft.entry, draft.variant, examined, words, draft.own())


def _not_of_config(examined: parameters.Settings) -> list[str]:
    """What a run is given over a `--config` file that has it: its name, and the GPU it sees."""
    naming = [] if examined.savename == NAMED_BY_GROUP else ["--savename", NAMED_BY_GROUP]
    return naming + ([] if examined.gpu == [0] else ["--gpu", "0"])


def _tell(document: Document, draft: _Draft, sentence: str, further: Sequence[str]) -> None:
    """Say what is wrong of a run where the setting stands that it names."""
    names = re.findall(r"--(\w+)", sentence)
    typed = {word.partition("=")[0] for word in further}
    if any(f"--{name}" in typed for name in names[:1]):
        document.wrong(f"behind --: {sentence}")
    else:
        document.wrong(sentence, *draft.place_of(names))


def _require_apart(document: Document, runs: Sequence[Planned]) -> None:
    """No two runs of one name, by which they are told apart wherever they lie.

    A seed or a dataset behind -- would make them, and names that run into each other: cub_x with y
    and cub with x_y.
    """
    first: dict[str, Planned] = {}
    for run in runs:
        other = first.setdefault(run.label, run)
        if other.variant != run.variant:
            document.wrong(
                f"{run.label} would be the name of two runs: of variant {other.variant} on "
                f"{other.entry}, and of {run.variant} on {run.entry}; rename one of these.",
                "variants",
                run.variant,
            )
        elif other is not run:
            document.wrong(
                f"several of its runs come to be {run.label}, which one only can be; seeds and "
                "datasets stand in the file, not behind --."
            )


def _baseline(document: Document) -> str | None:
    """The variant with which the others are compared: the first, if the file does not say."""
    variants = list(document.mapping("variants"))
    if "baseline" not in document.mapping():
        return next(iter(variants), None)
    name = document.at("baseline")
    if name is not None and str(name) not in variants:
        hint = nearest(str(name), variants)
        document.wrong(f"baseline: there is no variant {abridged(name)}{hint}.", "baseline")
    return None if name is None else str(name)


def _jobs(document: Document) -> int | None:
    jobs = document.at("jobs")
    if jobs is not None and (type(jobs) is not int or jobs < 1):
        document.wrong("jobs must be a whole number of at least 1.", "jobs")
        return None
    return jobs


def _gpus(document: Document) -> list[str] | None:
    gpus = document.at("gpus")
    if gpus is None:
        return None
    entries = gpus if isinstance(gpus, list) else [gpus]
    if not entries or not all(names_one_gpu(str(gpu)) for gpu in entries):
        document.wrong("gpus must be a list of their numbers, as [0, 1].", "gpus")
    return [str(gpu) for gpu in entries]


def _slurm(document: Document) -> dict[str, str | None]:
    """Options of sbatch as they are typed; `true` is a bare one, `false` and null are none."""
    options: dict[str, str | None] = {}
    for name, value in document.mapping("slurm").items():
        if isinstance(value, dict | list) or not re.fullmatch(r"[a-z][a-z_-]+", name):
            document.wrong(f"{name} must be a long option of sbatch with one value.", "slurm", name)
        elif not document.typed("slurm", name).isprintable():
            document.wrong(f"{name} must be a value of one line.", "slurm", name)
        elif value is True:
            options[name.replace("_", "-")] = None
        elif value is not None and value is not False:
            options[name.replace("_", "-")] = document.typed("slurm", name)
    return options


def notices(study: Study) -> list[str]:
    """What a person should know of a file that nothing is wrong with."""
    return [*_same_settings(study.runs), *_idle_everywhere(study.runs)]


def _same_settings(runs: Sequence[Planned]) -> list[str]:
    """A sentence for each two variants that differ in name only."""
    first = {(run.entry, run.variant): run for run in reversed(runs)}
    return [
        f"The variants {one.variant} and {other.variant} come to the same settings on "
        f"{one.entry or one.settings.dataset}."
        for other, one in itertools.combinations(first.values(), 2)
        if one.entry == other.entry and not differing(parameters.stored(one.settings), other)
    ]


def differing(stored: Mapping[str, Any], run: Planned) -> list[str]:
    """Names of the settings by which a run of those stored is another run than this one."""
    whole = parameters.whole(stored)
    return [
        name
        for name, value in parameters.stored(run.settings).items()
        if whole[name] != value and parameters.matters(name, run.settings, whole[name])
    ]


def _idle_everywhere(runs: Sequence[Planned]) -> list[str]:
    """What is said of settings by the notices of every run; a setting may well act in some only."""
    said = [parameters.notices(run.settings) for run in runs]
    return [sentence for sentence in said[0] if all(sentence in others for others in said)]
