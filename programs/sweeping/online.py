"""A sweep of Weights & Biases: its YAML, and a file of settings for each variant.

The agents of W&B combine parameters freely, while a variant sets several at once and has a name; so
each variant is a file for `--config`, one value of the parameter `config`. An agent reads it when a
run begins: a sweep of other variants has a folder of its own, so that nothing changes below it.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import parameters
from programs.sweeping.settings import KNOWN, OWN
from programs.sweeping.study import Planned, Study
from utilities import run_folder
from utilities.documents import WrittenNumber
from utilities.errors import UserError
from utilities.flags import LARGEST, Bounds, Flag, Number, Real, Whole, abridged, nearest

# A switch reaches main.py as its bare flag, or not at all.
COMMAND = ["${env}", "${interpreter}", "${program}", "${args_no_boolean_flags}"]
GIVEN = {"config": "its values are the variants", "seed": "its values are the seeds"}
DIGITS = 8  # of the digest in a folder's name
NUMBERS = ("min", "max", "mu", "sigma", "q")  # of distributions
ANY_NUMBER = Real("number", 0, "Of a distribution: perhaps an exponent.", Bounds(-LARGEST))
SWITCHES = ("log_online", "completed")


def files(study: Study, runs: Sequence[Planned]) -> dict[Path, str]:
    """What is written: the sweep first, then the settings of each variant."""
    seeds = _seeds_of_all(runs)
    swept = _swept(study)
    _require_shared(study, runs, swept)
    given = {*swept, *(["seed"] if seeds else [])}
    apart = {"group_by": [KNOWN[name].name for name in swept]} if swept else {}
    variants: dict[str, str] = {}
    for run in runs:
        name = run.group if seeds else run.name
        text = _as_yaml(_stated(run, given) | apart)
        variants.setdefault(f"{run.settings.dataset}/{name}.yaml", text)
    folder = _folder(study, runs, variants)
    paths = {folder / name: text for name, text in variants.items()}
    return {folder / "sweep.yaml": _as_yaml(_sweep(study, runs, seeds, paths)), **paths}


def _folder(study: Study, runs: Sequence[Planned], variants: Mapping[str, str]) -> Path:
    digest = hashlib.sha256(json.dumps(variants).encode()).hexdigest()[:DIGITS]
    name = f"{study.file.stem}-{digest}"
    return Path(runs[0].settings.save_path) / "wandb_sweeps" / name


def write(contents: Mapping[Path, str]) -> None:
    for path, text in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        run_folder.write_atomically(path, text)


def _seeds_of_all(runs: Sequence[Planned]) -> list[int]:
    """The seeds that each variant has; none where variants have other ones."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for run in runs:
        seeds.setdefault((run.entry, run.variant), []).append(run.settings.seed)
    first = next(iter(seeds.values()))
    return first if all(others == first for others in seeds.values()) else []


def _sweep(
    study: Study, runs: Sequence[Planned], seeds: list[int], settings: Iterable[Path]
) -> dict[str, Any]:
    usual = {
        "program": "main.py",
        "name": study.file.stem,
        "project": runs[0].settings.project,
        "method": "grid",
        "command": COMMAND,
    }
    given = {
        "config": {"values": [str(path) for path in settings]},
        **({"seed": {"values": seeds}} if seeds else {}),
        **{name: {"value": True} for name in SWITCHES},
    }
    return usual | study.wandb | {"parameters": given | _swept(study)}


def _swept(study: Study) -> dict[str, Any]:
    """Parameters that the file adds to those of its variants, by the names of flags.

    With values as main.py reads them: YAML takes 1e-5 for a text. Raises UserError for a parameter
    that says no values, or some that main.py would refuse.
    """
    swept = study.wandb.get("parameters") or {}
    if not isinstance(swept, dict):
        raise UserError(f"{study.file}: parameters of wandb must hold lines 'name: ...'.")
    for name in swept:
        if name not in KNOWN:
            hint = nearest(str(name), KNOWN)
            raise UserError(f"{study.file}: wandb: there is no setting {name}{hint}.")
        if why := GIVEN.get(name) or OWN.get(name):
            raise UserError(f"{study.file}: wandb: {name} is no parameter of a sweep: {why}.")
    return {name: _read(study, name, parameter) for name, parameter in swept.items()}


def _require_shared(study: Study, runs: Sequence[Planned], swept: Iterable[str]) -> None:
    """Raises UserError for a parameter in the place of what tells runs of the file apart."""
    for name, run in itertools.product(swept, runs):
        if own := _of_its_own(run, runs[0], KNOWN[name].name):
            where = run.entry or run.settings.dataset
            raise UserError(
                f"{study.file}: wandb: {name} is no parameter of a sweep: {run.variant} on {where} "
                f"has {own} of its own; leave it out of one of the two."
            )


def _of_its_own(run: Planned, other: Planned, name: str) -> str | None:
    """The setting, under either name of its meaning, that its variant states or that differs."""
    for meaning in (name, parameters.SAME_MEANING.get(name, name)):
        differs = getattr(run.settings, meaning) != getattr(other.settings, meaning)
        if differs or meaning in run.own:
            return meaning
    return None


def _read(study: Study, name: str, parameter: object) -> dict[str, Any]:
    if not isinstance(parameter, dict) or not isinstance(parameter.get("values", []), list):
        parameter = {}
    if not parameter:
        raise UserError(
            f"{study.file}: wandb: parameter {name} must say its values, as {{values: [1, 2]}}."
        )
    try:
        return {key: _read_part(KNOWN[name], parameter, key) for key in parameter}
    except ValueError as error:
        raise UserError(f"{study.file}: wandb: {name}: {error}.") from error


def _read_part(flag: Flag, parameter: Mapping[str, Any], key: str) -> object:
    """Raises ValueError, in words."""
    content = parameter[key]
    if key == "values":
        return [_value(flag, value) for value in content]
    if key == "value":
        return _value(flag, content)
    if key not in NUMBERS:
        return content
    if not isinstance(flag, Number):
        raise ValueError(f"{key} is for numbers, and this is {flag.noun}")
    is_value = isinstance(flag, Whole) and "distribution" not in parameter
    return _read_entry(flag if is_value else ANY_NUMBER, content)


def _value(flag: Flag, value: object) -> object:
    if isinstance(value, list):
        raise ValueError(
            f"{abridged(value, of=repr)} is a list, and an agent hands over single values; make a "
            "variant of each list"
        )
    entry = _read_entry(flag, value)
    if problem := flag.problem(entry):
        raise ValueError(problem.removesuffix("."))
    return entry


def _read_entry(flag: Flag, value: object) -> object:
    """A whole number stays one: W&B divides 1 from 1.0."""
    try:
        entry = flag.read_entry(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{abridged(value, of=repr)} is not {flag.noun}") from error
    return value if isinstance(flag, Real) and isinstance(value, int) else entry


def _stated(run: Planned, swept: set[str]) -> dict[str, Any]:
    """The settings of a run that are stated anywhere, but for those that W&B gives."""
    return {
        name: value
        for name, value in parameters.stored(run.settings).items()
        if name in run.settings.stated and name not in swept
    }


class _Dumper(yaml.SafeDumper):
    """Options of W&B reach it as they are written."""


_Dumper.add_representer(
    WrittenNumber,
    lambda dumper, number: dumper.represent_scalar("tag:yaml.org,2002:float", str(number)),
)


def _as_yaml(content: Mapping[str, Any]) -> str:
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
