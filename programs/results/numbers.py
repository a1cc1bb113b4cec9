"""Numbers of a comparison as people read them: shares in percent, others plainly."""

from programs.results.metric_names import Metric
from programs.results.published import Published
from programs.results.statistics import Paired, Spread

NOTHING = "-"


def value(metric: Metric, number: float) -> str:
    """ "62.8" of a share, in percent; "0.1234" of anything else."""
    return f"{100 * number:.1f}" if metric.is_share else f"{number:.4g}"


def spread(metric: Metric, of: Spread | None) -> str:
    """ "62.8 ± 0.2", the mean alone of one value."""
    if of is None:
        return NOTHING
    mean = value(metric, of.mean)
    if of.std is None:
        return mean
    return f"{mean} ± {100 * of.std:.1f}" if metric.is_share else f"{mean} ± {of.std:.2g}"


def difference(metric: Metric, of: Paired | None) -> str:
    """ "+1.13 [-0.31, +2.57]", without interval of one pair."""
    if of is None:
        return NOTHING
    mean = _signed(metric, of.mean)
    if of.interval is None:
        return mean
    low, high = (_signed(metric, end) for end in of.interval)
    return f"{mean} [{low}, {high}]"


def published(of: Published | None) -> str:
    """ "62.8 ± 0.2"."""
    return f"{of.mean:.1f} ± {of.std:.1f}" if of else ""


def title(metric: Metric) -> str:
    """The name of a metric with its unit, and its direction where that is down."""
    unit = " (%)" if metric.is_share else ""
    return f"{metric.name}{unit}{', lower is better' if metric.lower_is_better else ''}"


def _signed(metric: Metric, number: float) -> str:
    return f"{100 * number:+.2f}" if metric.is_share else f"{number:+.3g}"
