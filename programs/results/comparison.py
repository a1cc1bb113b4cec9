"""Groups of runs beside each other: means over seeds, and differences to a baseline.

`compare` is the door: from runs to plain numbers, which tables, curves and pages show.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from programs.constants import VALUES
from programs.results import doubts, metric_names, published, settings
from programs.results.groups import Chosen, Key, Seeds, choose
from programs.results.metric_names import Metric
from programs.results.published import Published
from programs.results.runs import Run
from programs.results.settings import Effective
from programs.results.statistics import Paired, Spread, paired, spread
from utilities.errors import UserError
from utilities.flags import nearest

OfMetrics = dict[str, dict[str, dict[int, float]]]  # metric -> one of VALUES -> seed -> value


@dataclass(frozen=True)
class Measured:
    """A metric of a group; numbers are those of results.json, shares between 0 and 1.

    Attributes:
        values: best, at_best_val and last, as far as there are any -> seed -> value.
        spreads: of each of these. difference: of the chosen one to the baseline.
        published: what the paper reports of such runs, in percent.
    """

    metric: Metric
    values: dict[str, dict[int, float]]
    spreads: dict[str, Spread]
    difference: Paired | None = None
    published: Published | None = None


@dataclass(frozen=True)
class Group:
    """Runs of one dataset and one setting.

    Attributes:
        runs: by seed. settings: by name those that differ between groups of the dataset, as typed;
            "" where one has no effect. measured: by the metric's name, of those that it has.
    """

    dataset: str
    name: str
    runs: dict[int, Run]
    settings: dict[str, str]
    measured: dict[str, Measured]


@dataclass(frozen=True)
class Comparison:
    """
    Attributes:
        groups: dataset by dataset, the baseline first. metrics: in the order asked for.
        split: Test, Val or Train. value: of VALUES, of which differences are.
        baseline: the group that others are held against, if any.
        left_out: a sentence for all that is no part of a mean or of a difference.
        warnings: a sentence for all that makes a mean or a difference doubtful.
    """

    groups: list[Group]
    metrics: list[Metric]
    split: str
    value: str
    baseline: str | None
    left_out: list[str]
    warnings: list[str]

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(group.dataset for group in self.groups))

    def of_dataset(self, dataset: str) -> list[Group]:
        return [group for group in self.groups if group.dataset == dataset]


def compare(
    runs: Iterable[Run],
    baseline: str | None = None,
    metrics: Sequence[str] = (),
    split: str = "Test",
    *,
    value: str = "best",
    evaluations: bool = False,
) -> Comparison:
    """The runs by group, over their seeds.

    Args:
        baseline: the group to which differences are taken, over the seeds of both.
        metrics: names as in --evaluation_metrics, `avg_features:<name>`, or keys of results.json;
            usual ones by default.
        split: Test, Val or Train. value: best, at_best_val or last, of which differences are.
        evaluations: runs of --evaluate_only are groups too; else they are left out.

    Raises UserError where no run has finished, and for a baseline, metric or value that none has.
    """
    chosen = choose(runs, evaluations=evaluations)
    groups = _in_order(chosen, baseline)
    wanted = metric_names.resolve(metrics, _keys(groups, split), split)
    values = {key: _values(seeds, wanted, split) for key, seeds in groups.items()}
    _require_any(values, value)
    made_of = {
        key: {seed: settings.effective(run.settings) for seed, run in seeds.items()}
        for key, seeds in groups.items()
    }
    differing = _differing(made_of)
    found = []
    for (dataset, name), seeds in groups.items():
        key = dataset, name
        base = values.get((dataset, baseline), {}) if baseline and baseline != name else {}
        reported = published.of(dataset, made_of[key].values()) if split == "Test" else {}
        measured = {
            metric.name: _measured(metric, values[key], base, value, reported)
            for metric in wanted
            if metric.name in values[key]
        }
        found.append(Group(dataset, name, seeds, differing[key], measured))
    left_out = [*chosen.left_out, *doubts.gaps(groups, values, baseline)]
    warnings = doubts.warnings(groups, made_of, wanted, split, baseline)
    return Comparison(found, wanted, split, value, baseline, left_out, warnings)


def _in_order(chosen: Chosen, baseline: str | None) -> dict[Key, Seeds]:
    """Dataset by dataset, the baseline first. Raises UserError without runs, or without it."""
    if not chosen.groups:
        raise UserError(f"There is no finished run to compare. {' '.join(chosen.left_out[:3])}")
    names = list(dict.fromkeys(name for _, name in chosen.groups))
    if baseline is not None and baseline not in names:
        raise UserError(
            f"There is no group {baseline} with finished runs{nearest(baseline, names)}; there "
            f"are: {', '.join(names)}."
        )
    order = sorted(chosen.groups, key=lambda key: (key[0], key[1] != baseline, _counted(key[1])))
    return {key: chosen.groups[key] for key in order}


def _counted(name: str) -> list[str | int]:
    """By which 2 comes before 10 in names."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name)]


def _keys(groups: Mapping[Key, Seeds], split: str) -> list[str]:
    """Those of all metrics that any run has."""
    runs = [run for seeds in groups.values() for run in seeds.values()]
    return list(dict.fromkeys(key for run in runs for key in run.values(split)))


def _values(seeds: Seeds, wanted: Sequence[Metric], split: str) -> OfMetrics:
    """As far as the runs of a group have any."""
    found: OfMetrics = {}
    for seed, run in seeds.items():
        three = run.values(split)
        for metric in wanted:
            if metric.key not in three:
                continue
            for kind in VALUES:
                number = getattr(three[metric.key], kind)
                if number is not None:
                    found.setdefault(metric.name, {}).setdefault(kind, {})[seed] = number
    return found


def _require_any(values: Mapping[Key, OfMetrics], value: str) -> None:
    """Raises UserError where no metric has the value of which differences are to be."""
    kinds = {kind for metrics in values.values() for kinds in metrics.values() for kind in kinds}
    if value not in kinds:
        raise UserError(f"No run has the value {value}, which takes a validation split.")


def _measured(
    metric: Metric,
    group: OfMetrics,
    baseline: OfMetrics,
    value: str,
    reported: Mapping[str, Published],
) -> Measured:
    kinds, base = group[metric.name], baseline.get(metric.name, {})
    return Measured(
        metric,
        {kind: kinds[kind] for kind in VALUES if kind in kinds},
        {kind: spread(list(kinds[kind].values())) for kind in VALUES if kind in kinds},
        paired(kinds.get(value, {}), base.get(value, {})),
        reported.get(metric.name),
    )


def _differing(made_of: Mapping[Key, Mapping[int, Effective]]) -> dict[Key, dict[str, str]]:
    """Of each group the settings in which the groups of its dataset differ."""
    found: dict[Key, dict[str, str]] = {}
    for dataset in dict.fromkeys(dataset for dataset, _ in made_of):
        groups = {
            name: list(seeds.values()) for (its, name), seeds in made_of.items() if its == dataset
        }
        for name, values in settings.between(groups).items():
            found[dataset, name] = values
    return found
