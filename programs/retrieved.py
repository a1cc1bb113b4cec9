"""Which classes the neighbours of a class come from, in two runs side by side.

python -m programs.retrieved BASELINE GUIDED --to retrieved.pdf
python -m programs.retrieved BASELINE GUIDED --to terns.svg --classes "Arctic Tern" "Common Tern"
"""

import argparse
import logging
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from programs import command_line
from programs.constants import CURVE_FILES, EVALTYPES

if TYPE_CHECKING:
    import torch

    from datasets import ImageSplit
    from evaluation.retrieved_classes import RetrievedClasses
    from programs.trained import Trained

LOG = logging.getLogger("programs.retrieved")
SHOWN, BARS = 6, 9  # classes that are asked for, and bars of retrieved ones


class Flags(command_line.EmbeddingFlags):
    runs: list[Path]
    to: Path
    classes: list[str]
    neighbours: int
    evaltype: str
    source_path: Path | None


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong flag or file, 130 interrupted."""
    return command_line.run("retrieved", run, parse(argv))


def parse(argv: list[str] | None) -> Flags:
    parser = command_line.build_parser(
        "retrieved",
        "Show side by side which classes the nearest neighbours of a class come from in two runs "
        "on the same data, with guidance and without, say. The test split is embedded again from "
        "both checkpoints, and searched by cosine.",
    )
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs=2,
        type=command_line.checkpoint,
        help="Two run folders of main.py, or checkpoints.",
    )
    parser.add_argument(
        "--to",
        metavar=f"FILE{'|'.join(CURVE_FILES)}",
        type=command_line.output,
        required=True,
        help="Figure to write; FILE.csv beside it has the shares of all classes.",
    )
    parser.add_argument(
        "--classes",
        metavar="NAME",
        action="extend",
        nargs="+",
        default=[],
        help=f"Whose queries the figure shows. By default the {SHOWN} classes in which the runs "
        "differ most.",
    )
    parser.add_argument(
        "--neighbours",
        type=command_line.at_least(1),
        default=10,
        help="How many of each query count (%(default)s).",
    )
    parser.add_argument(
        "--evaltype",
        choices=EVALTYPES,
        default="embeds",
        help="The embedding (the default), or the pooled features below it.",
    )
    parser.add_argument(
        "--source_path",
        metavar="DIR",
        type=command_line.place,
        help="Where the data lies, if not where the runs read it.",
    )
    command_line.add_embedding_flags(parser)
    return _checked(parser, parser.parse_args(argv, Flags()))


def run(flags: Flags) -> None:
    """Embed, search, and write figure and table."""
    from evaluation import retrieved_classes

    first, second, testing = _both(flags)
    names, runs = _distinct_names(testing), _names(flags.runs)
    changes = retrieved_classes.differences(first, second)
    order = _by_difference(first, changes)
    chosen = _chosen(flags.classes, testing, names, order) if flags.classes else order[:SHOWN]
    panels = {
        label: retrieved_classes.bars(first, second, label, BARS) for label in dict.fromkeys(chosen)
    }
    table = flags.to.with_suffix(".csv")
    said = {file: "Replaced" if file.exists() else "Written" for file in (flags.to, table)}
    retrieved_classes.draw(flags.to, panels, names, runs)
    for label in panels:
        _say(names, label, float(changes[label]), first.of(label), second.of(label))
    _write_table(table, (first, second), changes, names, runs)
    LOG.info("%s: %s, %d of %d classes", said[flags.to], flags.to, len(panels), len(order))
    LOG.info("%s: %s, all of them", said[table], table)


def _checked(parser: argparse.ArgumentParser, flags: Flags) -> Flags:
    if flags.to.suffix not in CURVE_FILES:
        parser.error(f"argument --to: {flags.to} must end in {', '.join(CURVE_FILES)}")
    for file in (flags.to, flags.to.with_suffix(".csv")):
        if file.is_dir() or not file.parent.is_dir():
            why = "it is a folder" if file.is_dir() else f"there is no folder {file.parent}"
            parser.error(f"argument --to: {file}: {why}")
    if flags.runs[0].resolve() == flags.runs[1].resolve():
        parser.error(f"argument RUN: {flags.runs[0]} is given twice; a second run is needed")
    return flags


def _both(flags: Flags) -> "tuple[RetrievedClasses, RetrievedClasses, ImageSplit]":
    """What each run retrieves, and the test split that both see.

    Raises UserError where the runs have other test images.
    """
    import parameters
    from programs import images, run_data, trained
    from utilities.errors import UserError
    from utilities.fingerprint import differences, fingerprint

    place = str(flags.source_path) if flags.source_path else None
    retrieved: list[RetrievedClasses] = []
    seen: list[dict[str, int | str]] = []
    device = flags.device
    for checkpoint in flags.runs:
        network = trained.load(checkpoint, device, gpu=flags.gpu_index, precision=flags.precision)
        device = network.runtime.device.type  # that `auto` finds no GPU is told once
        settings = parameters.whole(network.settings) | {"class_text": None}
        splits = run_data.splits(settings, network, place)
        testing = images.whole(splits.testing, "--source_path", flags.on_bad_image)
        held = fingerprint(testing.files, testing.labels, testing.class_names, testing.boxes)
        if seen and (other := differences(seen[0], held)):
            raise UserError(
                f"{flags.runs[0]} and {checkpoint} were tested on different images: "
                f"{', '.join(other)}. Compare runs on the same data."
            )
        seen.append(held)
        retrieved.append(_retrieved(network, testing, flags))
    return retrieved[0], retrieved[1], testing


def _retrieved(network: "Trained", testing: "ImageSplit", flags: Flags) -> "RetrievedClasses":
    import numpy as np
    import torch

    from evaluation import Protocol
    from evaluation.retrieved_classes import retrieved_classes
    from utilities.runtime import CPU, memory_budget

    blocks = network.blocks(testing, flags.evaltype, batch_size=flags.bs, workers=flags.kernels)
    embeddings = torch.from_numpy(np.concatenate(list(blocks)))
    protocol = Protocol.of(testing, [])
    return retrieved_classes(
        embeddings, protocol, flags.neighbours, memory=memory_budget("auto", CPU)
    )


def _names(checkpoints: list[Path]) -> list[str]:
    """Of two runs: their folders, or the checkpoints as far as these say more."""
    names = [checkpoint.resolve().parent.name for checkpoint in checkpoints]
    return names if names[0] != names[1] else [str(checkpoint) for checkpoint in checkpoints]


def _distinct_names(split: "ImageSplit") -> list[str]:
    """The texts of classes; where several share one, each with its name or number."""
    times = Counter(split.class_texts)
    names = [
        text if times[text] == 1 else f"{text}, {name}"
        for text, name in zip(split.class_texts, split.class_names)
    ]
    times = Counter(names)
    return [name if times[name] == 1 else f"{name} ({label})" for label, name in enumerate(names)]


def _by_difference(first: "RetrievedClasses", changes: "torch.Tensor") -> list[int]:
    """Classes that have queries, the most different first."""
    return sorted(first.asked.unique().tolist(), key=lambda label: (-changes[label], label))


def _chosen(
    wanted: list[str], split: "ImageSplit", names: list[str], asked: list[int]
) -> list[int]:
    """The classes of some names. Raises UserError for one that has no queries."""
    from utilities.choices import hint
    from utilities.errors import UserError

    of_names: dict[str, list[int]] = {}
    for label in sorted(asked):
        for name in {names[label], split.class_texts[label], split.class_names[label]}:
            of_names.setdefault(name, []).append(label)
    for name in wanted:
        if name not in of_names:
            raise UserError(
                f"--classes: the test split has no queries of the class {name}; "
                + hint([name], list(of_names), "it has")
            )
    return [label for name in wanted for label in of_names[name]]


def _say(
    names: list[str], label: int, change: float, first: dict[int, float], second: dict[int, float]
) -> None:
    """One line on what a class finds more, and what less, in the second run."""
    from utilities.errors import on_one_line

    gains = {found: second.get(found, 0.0) - first.get(found, 0.0) for found in first | second}
    order = sorted(gains, key=lambda found: (-abs(gains[found]), found))
    parts = [f"{names[found]} {100 * gains[found]:+.1f}" for found in order[:4] if gains[found]]
    what = ", ".join(parts) or "nothing changes"
    print(on_one_line(f"{names[label]}: {100 * change:.1f} % from other classes: {what}"))


def _write_table(
    file: Path,
    both: "tuple[RetrievedClasses, RetrievedClasses]",
    changes: "torch.Tensor",
    names: list[str],
    runs: list[str],
) -> None:
    """All shares above 0, a row for each pair of classes; the most different classes first."""
    from utilities.errors import in_escapes
    from utilities.rows import csv_of
    from utilities.run_folder import write_atomically

    rows: list[list[object]] = [["class", "difference", "retrieved", *map(in_escapes, runs)]]
    for label in _by_difference(both[0], changes):
        first, second = (each.of(label) for each in both)
        found = sorted(
            first | second, key=lambda each: (-max(first.get(each, 0), second.get(each, 0)), each)
        )
        rows += [
            [
                in_escapes(names[label]),
                f"{changes[label]:.4f}",
                in_escapes(names[each]),
                f"{first.get(each, 0):.4f}",
                f"{second.get(each, 0):.4f}",
            ]
            for each in found
        ]
    write_atomically(file, csv_of(rows))


if __name__ == "__main__":
    sys.exit(main())
