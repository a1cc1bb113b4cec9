"""A comparison as a document for people: for a terminal, Markdown, LaTeX; and all formats."""

import re
import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

from programs.results import numbers, plain, settings
from programs.results.comparison import VALUES, Comparison, Group, Measured
from programs.results.metric_names import Metric
from programs.results.statistics import CONFIDENCE
from utilities.errors import on_one_line
from utilities.report import THREE_VALUES, WIDTH

GAP = "  "
TITLES = {field: title for title, (field, _, _) in THREE_VALUES.items()}
MEANINGS = {title: meaning for title, (*_, meaning) in THREE_VALUES.items()}
# What Markdown and LaTeX read as something else.
MARKS_OF_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|$~&])")
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}


class Grid(NamedTuple):
    """A metric on a dataset: titles of the columns, and a row of cells for each group."""

    header: list[str]
    rows: dict[str, list[str]]


def text(comparison: Comparison, *, seeds_shown: bool = False) -> str:
    """Tables of at most 100 columns, and all there is to know of them."""
    parts = []
    for dataset in comparison.datasets:
        parts.append(_text_of(comparison, dataset, seeds_shown=seeds_shown))
        if listed := _settings_of(comparison, dataset):
            parts.append("\n".join(["settings that differ", *listed]))
    parts.append("\n".join(_wrapped(sentence) for sentence in legend(comparison)))
    for title, sentences in _remarks(comparison).items():
        parts.append("\n".join([title, *(_wrapped(f"- {line}", "  ") for line in sentences)]))
    return "\n\n".join(parts) + "\n"


def markdown(comparison: Comparison, *, seeds_shown: bool = False) -> str:
    """A table for each dataset, and all there is to know of it."""
    parts = []
    for dataset in comparison.datasets:
        parts.append(f"### {in_markdown(_heading(comparison, dataset))}")
        parts.append(_markdown_of(comparison, dataset, seeds_shown))
    parts.append("\n\n".join(map(in_markdown, legend(comparison))))
    for title, sentences in _remarks(comparison).items():
        parts.append("\n".join([f"{title}:\n", *(f"- {in_markdown(line)}" for line in sentences)]))
    return "\n\n".join(parts) + "\n"


def latex(comparison: Comparison, *, seeds_shown: bool = False) -> str:
    """A tabular of booktabs for each dataset: a row for each group, columns for each metric.

    All else there is to know stands in comments.
    """
    parts = [r"% Needs \usepackage{booktabs}."]
    for dataset in comparison.datasets:
        comments = [_heading(comparison, dataset), *_settings_of(comparison, dataset)]
        parts.append(_commented(comments) + "\n" + _latex_of(comparison, dataset, seeds_shown))
    parts.append(_commented(legend(comparison)))
    for title, sentences in _remarks(comparison).items():
        parts.append(_commented([f"{title}:", *sentences]))
    return "\n\n".join(parts) + "\n"


FOR_PEOPLE: dict[str, Callable[..., str]] = {"text": text, "markdown": markdown, "latex": latex}
FOR_PROGRAMS = {"csv": plain.comma_separated, "json": plain.as_json}


def document(comparison: Comparison, form: str, *, seeds_shown: bool = False) -> str:
    """A comparison in the form `text`, `markdown`, `latex`, `csv` or `json`.

    Args:
        seeds_shown: the values of each seed stand in tables, too, as they always do in csv and
            json.
    """
    if form in FOR_PROGRAMS:
        return FOR_PROGRAMS[form](comparison)
    return FOR_PEOPLE[form](comparison, seeds_shown=seeds_shown)


def legend(comparison: Comparison) -> list[str]:
    """What the columns of a table mean, a sentence each."""
    kinds = _kinds(comparison.groups)
    meant = "; ".join(f"{TITLES[kind]}: {MEANINGS[TITLES[kind]]}" for kind in kinds)
    sentences = [f"Mean ± standard deviation (n - 1) over n seeds. {meant[0].upper()}{meant[1:]}."]
    if any(measured.difference for measured in _all_measured(comparison.groups)):
        baseline = on_one_line(str(comparison.baseline))
        sentences.append(
            f"Difference: {TITLES[comparison.value]} minus that of {baseline}, over pairs of "
            f"runs of the same seed, with its {CONFIDENCE:.0%} interval (Student's t)."
        )
    reported = [measured.published for measured in _all_measured(comparison.groups)]
    for source in dict.fromkeys(published.source for published in reported if published):
        sentences.append(f"Published: {source}.")
    return sentences


def grid(comparison: Comparison, dataset: str, metric: Metric, seeds: Sequence[int]) -> Grid:
    """The columns of a table that a metric has on a dataset.

    Args:
        seeds: whose values have a column each.
    """
    groups = comparison.of_dataset(dataset)
    kinds, measured = _kinds(groups), _all_measured(groups)
    header = ["n", *(f"seed {seed}" for seed in seeds), *(TITLES[kind] for kind in kinds)]
    has_differences = any(each.difference for each in measured)
    header += ["difference", "pairs"] if has_differences else []
    header += ["published"] if any(each.published for each in measured) else []
    rows = {}
    for group in groups:
        each = group.measured.get(metric.name)
        if each is None:
            rows[group.name] = [numbers.NOTHING] * len(header)
            continue
        own = each.values.get(comparison.value, {})
        cells = [str(max(spread.n for spread in each.spreads.values()))]
        cells += [
            numbers.value(metric, own[seed]) if seed in own else numbers.NOTHING for seed in seeds
        ]
        cells += [numbers.spread(metric, each.spreads.get(kind)) for kind in kinds]
        if has_differences:
            cells += _difference(comparison, group, each)
        rows[group.name] = [*cells, numbers.published(each.published)][: len(header)]
    return Grid(header, rows)


def _grids(comparison: Comparison, dataset: str, seeds: Sequence[int]) -> dict[Metric, Grid]:
    """Of each metric that any group of the dataset has."""
    has = {name for group in comparison.of_dataset(dataset) for name in group.measured}
    metrics = [metric for metric in comparison.metrics if metric.name in has]
    return {metric: grid(comparison, dataset, metric, seeds) for metric in metrics}


def _difference(comparison: Comparison, group: Group, measured: Measured) -> list[str]:
    """The cells of the difference and of the number of its pairs."""
    if group.name == comparison.baseline:
        return ["baseline", ""]
    pairs = len(measured.difference.seeds) if measured.difference else 0
    return [numbers.difference(measured.metric, measured.difference), str(pairs)]


def _kinds(groups: Sequence[Group]) -> list[str]:
    """The kinds of values that any group has."""
    measured = _all_measured(groups)
    return [kind for kind in VALUES if any(kind in each.values for each in measured)]


def _all_measured(groups: Sequence[Group]) -> list[Measured]:
    return [measured for group in groups for measured in group.measured.values()]


def _all_seeds(groups: Sequence[Group]) -> list[int]:
    return sorted({seed for group in groups for seed in group.runs})


def _heading(comparison: Comparison, dataset: str) -> str:
    return on_one_line(f"{dataset}, {comparison.split}")


def _settings_of(comparison: Comparison, dataset: str) -> list[str]:
    """A line for each group with the settings that differ; none where none do."""
    groups = comparison.of_dataset(dataset)
    if not any(group.settings for group in groups):
        return []
    return [
        _wrapped(f"  {on_one_line(group.name)}: {_flags(group) or 'none of these'}", "    ")
        for group in groups
    ]


def _flags(group: Group) -> str:
    return on_one_line(settings.as_flags(group.settings))


def _remarks(comparison: Comparison) -> dict[str, list[str]]:
    """What must be known, by title."""
    remarks = {"Left out or missing": comparison.left_out, "Doubtful": comparison.warnings}
    return {title: sentences for title, sentences in remarks.items() if sentences}


def _wrapped(sentence: str, indent: str = "") -> str:
    return "\n".join(textwrap.wrap(sentence, WIDTH, subsequent_indent=indent))


# For a terminal


def _text_of(comparison: Comparison, dataset: str, *, seeds_shown: bool) -> str:
    grids = _grids(comparison, dataset, [])
    lines = [row for each in grids.values() for row in (each.header, *each.rows.values())]
    widths = [max(map(len, column)) for column in zip(*lines)]
    firsts = [*map(numbers.title, grids), *(on_one_line(group.name) for group in comparison.groups)]
    first = max(map(len, firsts))
    is_beside = first + sum(len(GAP) + width for width in widths) <= WIDTH
    parts = [_heading(comparison, dataset)]
    for metric, each in grids.items():
        head = _line(numbers.title(metric), each.header, widths, first if is_beside else None)
        block = [head, "-" * max(map(len, head.split("\n")))]
        for group in comparison.of_dataset(dataset):
            name, cells = on_one_line(group.name), each.rows[group.name]
            block.append(_line(name, cells, widths, first if is_beside else None))
            if seeds_shown and metric.name in group.measured:
                block.append(_by_seed(group.measured[metric.name], comparison.value))
        parts.append("\n".join(block))
    return "\n\n".join(parts)


def _line(name: str, cells: Sequence[str], widths: Sequence[int], first: int | None) -> str:
    """A row; without room for the name beside its cells, the name stands above them."""
    padded = GAP.join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip()
    if first is None:
        return f"{_wrapped(name)}\n{GAP}{padded}"
    return f"{name.ljust(first)}{GAP}{padded}".rstrip()


def _by_seed(measured: Measured, kind: str) -> str:
    values = measured.values.get(kind, {})
    shown = ", ".join(
        f"seed {seed}: {numbers.value(measured.metric, value)}" for seed, value in values.items()
    )
    return _wrapped(f"    {TITLES[kind]} of {shown or 'no seed'}", " " * 6)


# Markdown


def _markdown_of(comparison: Comparison, dataset: str, seeds_shown: bool) -> str:
    groups = comparison.of_dataset(dataset)
    seeds = _all_seeds(groups) if seeds_shown else []
    has_settings = any(group.settings for group in groups)
    rows = []
    header: list[str] = []
    for metric, each in _grids(comparison, dataset, seeds).items():
        header = ["group", "metric", *each.header, *["settings"] * has_settings]
        for group in groups:
            first = [in_markdown(group.name), in_markdown(numbers.title(metric))]
            # A cell ends at a bar also within code.
            last = [as_code(_flags(group)).replace("|", r"\|")] * has_settings
            rows.append([*first, *map(in_markdown, each.rows[group.name]), *last])
    lines = [f"| {' | '.join(row)} |" for row in [header, *rows]]
    return "\n".join([lines[0], f"|{'---|' * len(header)}", *lines[1:]])


def in_markdown(sentence: str) -> str:
    """A text that Markdown shows as it is."""
    return MARKS_OF_MARKDOWN.sub(r"\\\1", on_one_line(sentence))


def as_code(text: str) -> str:
    """A text that Markdown shows as code, on one line; "" of none."""
    if not text:
        return ""
    words = on_one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", words)), default=0))
    pad = " " if "`" in words else ""
    return f"{fence}{pad}{words}{pad}{fence}"


# LaTeX


def _latex_of(comparison: Comparison, dataset: str, seeds_shown: bool) -> str:
    """The numbers of values stand before the first metric, and before those that have others."""
    groups = comparison.of_dataset(dataset)
    seeds = _all_seeds(groups) if seeds_shown else []
    columns = [["", *(group.name for group in groups)]]
    counts: list[str] = []
    for metric, each in _grids(comparison, dataset, seeds).items():
        before, counts = counts, [_count(comparison, group, metric) for group in groups]
        if counts != before:
            columns.append(["n", *counts])
        for column in _columns_of_latex(comparison, each):
            title = each.header[column]
            title = numbers.title(metric) if title in MEANINGS else title
            columns.append([title, *(each.rows[group.name][column] for group in groups)])
    first, *others = (" & ".join(map(in_latex, row)) + r" \\" for row in zip(*columns))
    begin = rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}"
    end = [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([begin, r"\toprule", first, r"\midrule", *others, *end])


def _count(comparison: Comparison, group: Group, metric: Metric) -> str:
    """How many values the mean of a metric is of: not each run has one."""
    measured = group.measured.get(metric.name)
    spread = measured.spreads.get(comparison.value) if measured else None
    return str(spread.n) if spread else numbers.NOTHING


def _columns_of_latex(comparison: Comparison, each: Grid) -> list[int]:
    """Those of one kind of value, of seeds and differences, and of published numbers if any."""
    others = {"n", "pairs", *MEANINGS} - {TITLES[comparison.value]}
    return [
        column
        for column, title in enumerate(each.header)
        if title not in others and any(row[column] for row in each.rows.values())
    ]


def in_latex(words: str) -> str:
    """A text that LaTeX sets as it is, also behind the end of a row."""
    guard = "{}" if words.startswith(("[", "*")) else ""  # which would belong to that end
    return guard + "".join(LATEX.get(mark, mark) for mark in on_one_line(words))


def _commented(sentences: Sequence[str]) -> str:
    return "\n".join(f"% {line}" for sentence in sentences for line in sentence.split("\n"))
