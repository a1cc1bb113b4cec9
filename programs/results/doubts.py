"""What a reader of a comparison must know: what is missing from it, and what makes it doubtful."""

from collections.abc import Iterable, Mapping, Sequence

from programs.results import settings
from programs.results.groups import WITHOUT, Key, Seeds, in_words
from programs.results.metric_names import Metric
from programs.results.runs import Run, Values
from programs.results.settings import Effective
from utilities.errors import named

# By these a metric of language reads the classes.
OF_TEXTS = ("language_model", "language_weights", "language_primer", "class_text")
OfMetrics = Mapping[str, Mapping[str, Mapping[int, float]]]  # metric -> kind -> seed -> value


def gaps(
    groups: Mapping[Key, Seeds],
    values: Mapping[Key, OfMetrics],
    baseline: str | None,
) -> list[str]:
    """A sentence for all that is not there: seeds, values, a dataset's baseline."""
    sentences = []
    for dataset in dict.fromkeys(dataset for dataset, _ in groups):
        members = {key: seeds for key, seeds in groups.items() if key[0] == dataset}
        for key, seeds in members.items():
            sentences += _missing_values(key, seeds, values[key])
        sentences += _missing_metrics({key: values[key] for key in members})
        if baseline is None:
            sentences += _missing_seeds(members)
        elif (dataset, baseline) in members:
            sentences += _unpaired(members, (dataset, baseline))
        else:
            sentences.append(f"{dataset} has no run of {baseline}, so it has no differences.")
    return sentences


def warnings(
    groups: Mapping[Key, Seeds],
    made_of: Mapping[Key, Mapping[int, Effective]],
    metrics: Sequence[Metric],
    split: str,
    baseline: str | None,
) -> list[str]:
    """A sentence for each group whose runs differ in more than their seed, in what is evaluated, or
    from the baseline's in their data or in the texts that metrics read; for each metric that a run
    did not measure at its end, and for each run that changed its settings."""
    sentences = []
    for key, seeds in groups.items():
        sentences += _mixed_settings(key, made_of[key])
        sentences += _mixed_data(key, seeds)
        sentences += _mixed_checkpoints(key, seeds)
        sentences += _resumed_otherwise(key, seeds)
        values = {seed: run.values(split) for seed, run in seeds.items()}
        own = [metric for metric in metrics if any(metric.key in of for of in values.values())]
        sentences += _measured_before_the_end(key, seeds, values, own)
        if baseline is not None and key[1] != baseline:
            of_baseline = key[0], baseline
            sentences += _data_of_another(key, seeds, groups.get(of_baseline, {}))
            sentences += _texts_of_another(key, made_of[key], made_of.get(of_baseline, {}), own)
    return sentences


def _missing_metrics(values: Mapping[Key, OfMetrics]) -> list[str]:
    """Of each group, the metrics that only other groups of its dataset have."""
    every = dict.fromkeys(metric for metrics in values.values() for metric in metrics)
    lacking = {key: [name for name in every if name not in values[key]] for key in values}
    return [f"{in_words(key)} has no {named(names)}." for key, names in lacking.items() if names]


def _missing_values(key: Key, seeds: Seeds, values: OfMetrics) -> list[str]:
    """Where only some runs of a group have a value."""
    sentences = []
    for metric, kinds in values.items():
        for kind, of_seeds in kinds.items():
            if missing := seeds.keys() - of_seeds.keys():
                what = f"{kind.replace('_', ' ')} {metric}"
                sentences.append(f"{in_words(key)} has no {what} of {_seeds(missing)}.")
    return sentences


def _missing_seeds(members: Mapping[Key, Seeds]) -> list[str]:
    """Of each group, the seeds that only other groups of its dataset have."""
    every = set().union(*members.values())
    return [
        f"{in_words(key)} has no finished run of {_seeds(missing)}, as others have."
        for key, seeds in members.items()
        if (missing := every - seeds.keys())
    ]


def _unpaired(members: Mapping[Key, Seeds], baseline: Key) -> list[str]:
    """Of each group, the seeds that are no part of its difference."""
    sentences = []
    for key, seeds in members.items():
        only_here = seeds.keys() - members[baseline].keys()
        only_there = members[baseline].keys() - seeds.keys()
        if only_here:
            sentences.append(
                f"{in_words(key)}: {_seeds(only_here)} not in the difference, because the baseline "
                "has no finished run of it."
            )
        if only_there:
            sentences.append(
                f"{in_words(key)}: no finished run of {_seeds(only_there)}, which the baseline has."
            )
    return sentences


def _mixed_settings(key: Key, runs: Mapping[int, Effective]) -> list[str]:
    differing = [
        f"--{name} {_by_value(of_seeds)}" for name, of_seeds in settings.within(runs).items()
    ]
    if not differing:
        return []
    return [
        f"{in_words(key)} averages runs that differ in more than the seed: "
        f"{named(differing, settings.SHOWN_SETTINGS)}."
    ]


def _mixed_data(key: Key, seeds: Seeds) -> list[str]:
    known = [(seed, run.counts) for seed, run in seeds.items() if run.counts]
    others = [seed for seed, counts in known if counts != known[0][1]]
    if not others:
        return []
    return [
        f"{in_words(key)} averages runs of other data: {_seeds(others)} "
        f"({_in_words(seeds[others[0]], seeds[known[0][0]])})."
    ]


def _mixed_checkpoints(key: Key, seeds: Seeds) -> list[str]:
    """Where evaluations are of the last checkpoint and of one that a metric chose, say."""
    names = {seed: run.evaluated for seed, run in seeds.items() if run.is_evaluation}
    if len(set(names.values())) < 2:
        return []
    return [f"{in_words(key)} averages evaluations of different checkpoints: {_by_value(names)}."]


def _resumed_otherwise(key: Key, seeds: Seeds) -> list[str]:
    return [
        f"{in_words(key)}: {_seeds([seed])} was trained {time}, before it was resumed as it is."
        for seed, run in seeds.items()
        for time in settings.before_resuming(run.facts, run.settings)
    ]


def _measured_before_the_end(
    key: Key,
    seeds: Seeds,
    values: Mapping[int, Mapping[str, Values]],
    metrics: Sequence[Metric],
) -> list[str]:
    """Where the last value is of an epoch before, as of a run that was resumed without a metric."""
    sentences = []
    ends = {seed: run.facts.get("epochs", 0) for seed, run in seeds.items()}
    for metric in metrics:
        last = {seed: of[metric.key].last_epoch for seed, of in values.items() if metric.key in of}
        early = {
            seed: f"{epoch} of {ends[seed]}" for seed, epoch in last.items() if epoch < ends[seed]
        }
        if early:
            which = _by_value(early)
            sentences.append(f"{in_words(key)}: the last {metric.name} is of epoch {which}.")
    return sentences


def _texts_of_another(
    key: Key,
    runs: Mapping[int, Effective],
    baseline: Mapping[int, Effective],
    metrics: Sequence[Metric],
) -> list[str]:
    """Whether metrics of pairs of the difference compare images with other texts."""
    names = [metric.name for metric in metrics if metric.reads_texts]
    pairs = [(runs[seed], baseline[seed]) for seed in runs if seed in baseline]
    other = {
        name: (settings.typed(run[name]), settings.typed(base[name]))
        for run, base in pairs
        for name in OF_TEXTS
        if run[name] != base[name]
    }
    if not names or not other:
        return []
    differing = [
        f"--{name} {here or WITHOUT} (there {there or WITHOUT})"
        for name, (here, there) in other.items()
    ]
    return [
        f"{in_words(key)} measures {named(names)} by other texts than the baseline: "
        f"{named(differing)}."
    ]


def _data_of_another(key: Key, seeds: Seeds, baseline: Seeds) -> list[str]:
    """Whether pairs of the difference ran on data that counts differently."""
    pairs = [seed for seed in seeds if seed in baseline]
    known = [seed for seed in pairs if seeds[seed].counts and baseline[seed].counts]
    others = [seed for seed in known if seeds[seed].counts != baseline[seed].counts]
    if not others:
        return []
    return [
        f"{in_words(key)} ran on other data than the baseline: {_seeds(others)} "
        f"({_in_words(seeds[others[0]], baseline[others[0]])})."
    ]


def _in_words(run: Run, other: Run) -> str:
    """Counts of the splits in which two runs differ: "Test 2 classes, 9 images, there 8 images"."""
    splits = dict.fromkeys([*run.counts, *other.counts])
    return "; ".join(
        f"{split} {_counted(run.counts.get(split))}, there {_counted(other.counts.get(split))}"
        for split in splits
        if run.counts.get(split) != other.counts.get(split)
    )


def _counted(counts: Mapping[str, int] | None) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in (counts or {}).items()) or "nothing"


def _by_value(of_seeds: Mapping[int, str]) -> str:
    """ "0.1 (seeds 0, 1), 0.2 (seed 2)"."""
    seeds: dict[str, list[int]] = {}
    for seed, value in of_seeds.items():
        seeds.setdefault(value or WITHOUT, []).append(seed)
    return ", ".join(f"{value} ({_seeds(of_value)})" for value, of_value in seeds.items())


def _seeds(seeds: Iterable[int]) -> str:
    numbers = sorted(seeds)
    return f"seed{'s' * (len(numbers) > 1)} {named(list(map(str, numbers)), 10)}"
