"""Which classes the nearest neighbours of a class come from, in two spaces side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from evaluation.neighbours import Gallery
from evaluation.refinement import nearest_of_all
from evaluation.retrieval import Protocol, places, queries_at_once
from metrics import COSINE
from utilities.errors import UserError
from utilities.pictures import lettered, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS, WIDTH = 2, 5.6  # panels beside each other, and inches of each
ABOVE, BAR = 0.75, 0.34  # inches of a panel above and below its bars, and of a pair of bars
NAME = 34  # characters
COLOURS = ("#0072b2", "#d55e00")  # told apart by colour-blind people (Okabe and Ito, 2008)
OTHERS = "all others"


class RetrievedClasses(NamedTuple):
    """Of each class that has queries, where their neighbours come from; pairs of classes ascend.

    Attributes:
        asked, found: [P] long. shares: [P] float64, of the neighbours of all queries of the class
            `asked` those that are of the class `found`; they sum to 1 over the pairs of a class.
        classes: C.
    """

    asked: torch.Tensor
    found: torch.Tensor
    shares: torch.Tensor
    classes: int

    def of(self, label: int) -> dict[int, float]:
        """Class -> its share among the neighbours of one class."""
        start, end = torch.searchsorted(self.asked, torch.tensor([label, label + 1])).tolist()
        return dict(zip(self.found[start:end].tolist(), self.shares[start:end].tolist()))


class Bar(NamedTuple):
    """A class that is retrieved, with its share in each of two spaces; `label` -1 is of several."""

    label: int
    shares: tuple[float, float]


def retrieved_classes(
    embeddings: torch.Tensor, protocol: Protocol, depth: int, *, memory: int
) -> RetrievedClasses:
    """Of the `depth` nearest neighbours by cosine of each query.

    Args:
        embeddings: [N, D] float32 on the CPU.
        memory: bytes that the search may use beside them.
    Raises:
        UserError: a gallery in which there is nothing to find.
    """
    gallery_rows, queries, self_rows = places(embeddings, protocol)
    if len(gallery_rows) <= int((self_rows >= 0).any()):
        raise UserError("The gallery has no image but the query itself: there is nothing to find.")
    labels = protocol.labels
    of_gallery = labels if protocol.gallery is None else labels[protocol.gallery]
    gallery = Gallery(gallery_rows, COSINE, depth=depth, memory=memory)
    classes = int(labels.max()) + 1
    pairs = []
    step = queries_at_once(gallery, [], memory, is_listed=True)
    for block in torch.arange(len(queries)).split(step):
        rows = queries[block]
        _, found = nearest_of_all(gallery, embeddings[rows], self_rows[block], depth)
        of_pairs = labels[rows][:, None] * classes + of_gallery[found]
        pairs.append(of_pairs[found >= 0])
    keys, counts = torch.cat(pairs).unique(return_counts=True)
    asked = keys // classes
    totals = asked.bincount(weights=counts.double(), minlength=classes)
    return RetrievedClasses(asked, keys % classes, counts / totals[asked], classes)


def differences(first: RetrievedClasses, second: RetrievedClasses) -> torch.Tensor:
    """[C] float64: the share of each class's neighbours that are of other classes in the second.

    It is the total variation distance of the two histograms: 0 for equal ones, 1 for those that
    have no class in common, 0 for a class without queries.
    """
    keys = [each.asked * each.classes + each.found for each in (first, second)]
    pairs, places_of = torch.cat(keys).unique(return_inverse=True)
    signed = torch.cat([first.shares, -second.shares])
    changes = torch.zeros(len(pairs), dtype=torch.float64).index_add_(0, places_of, signed).abs()
    of_classes = torch.zeros(first.classes, dtype=torch.float64)
    return of_classes.index_add_(0, pairs // first.classes, changes) / 2


def bars(first: RetrievedClasses, second: RetrievedClasses, label: int, most: int) -> list[Bar]:
    """What queries of a class find: the class itself, the others by their share, and the rest.

    Args:
        most: bars of classes; what is left is one more.
    """
    one, other = first.of(label), second.of(label)
    found = {found: (one.get(found, 0.0), other.get(found, 0.0)) for found in {**one, **other}}
    found.setdefault(label, (0.0, 0.0))
    order = sorted(found, key=lambda each: (each != label, -max(found[each]), each))
    shown = [Bar(each, found[each]) for each in order[:most]]
    if not (left := [found[each] for each in order[most:]]):
        return shown
    return [*shown, Bar(-1, (sum(pair[0] for pair in left), sum(pair[1] for pair in left)))]


def draw(
    file: Path, panels: Mapping[int, Sequence[Bar]], names: Sequence[str], runs: Sequence[str]
) -> None:
    """A panel for each class that is asked for; a bar for each run. The class itself is bold.

    Raises UserError for a file that cannot be written.

    Args:
        panels: class -> its bars. names: of all classes. runs: names of the two.
    """
    labels = {*panels, *(bar.label for shown in panels.values() for bar in shown)} - {-1}
    rows = -(-len(panels) // COLUMNS)
    columns = min(COLUMNS, len(panels))
    height = ABOVE + BAR * max(map(len, panels.values()))
    with lettered([*runs, OTHERS, *(names[label] for label in sorted(labels))], NAME) as shown:
        figure = new_figure(WIDTH * columns, height * rows)
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, (label, of_class) in zip(grid, panels.items()):
            titles = [OTHERS if bar.label < 0 else names[bar.label] for bar in of_class]
            _draw_panel(axes, of_class, [shown[title] for title in titles])
            axes.set_title(shown[names[label]], fontsize=10)
            for bar, tick in zip(of_class, axes.get_yticklabels()):
                tick.set_fontweight("bold" if bar.label == label else "normal")
        for unused in grid[len(panels) :]:
            unused.set_axis_off()
        figure.tight_layout()
        handles, _ = grid[0].get_legend_handles_labels()
        figure.legend(
            handles, [shown[run] for run in runs], loc="upper center", bbox_to_anchor=(0.5, 0)
        )
        save(figure, file)


def _draw_panel(axes: "Axes", of_class: Sequence[Bar], titles: Sequence[str]) -> None:
    """Pairs of bars from the top down, with their names beside them."""
    heights = torch.arange(len(of_class)).double()
    for place, colour in enumerate(COLOURS):
        values = [100 * bar.shares[place] for bar in of_class]
        axes.barh(heights + 0.4 * place - 0.2, values, 0.38, color=colour, label=str(place))
    axes.set_yticks(heights, titles, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("% of the neighbours", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
