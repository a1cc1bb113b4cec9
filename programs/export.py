"""The network of a checkpoint as a file that runs without this program.

Beside it lies a description of its preprocessing.

    python -m programs.export RUN_FOLDER --to exported --format onnx --check PHOTOS
"""

import logging
import sys
from pathlib import Path

from programs import command_line
from programs.constants import CHECKED_IMAGES, MODEL_FORMATS, PREPROCESSING

LOG = logging.getLogger("programs.export")


class Flags(command_line.CheckpointFlags):
    to: Path
    format: str
    check: list[str]


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong flag or file or model, 130 interrupted."""
    return command_line.run("export", run, parse(argv))


def parse(argv: list[str] | None) -> Flags:
    parser = command_line.build_parser(
        "export",
        f"Write the network as a model for batches of any size, and {PREPROCESSING}, which says "
        "how to feed it.",
    )
    command_line.add_checkpoint(parser)
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=command_line.place,
        required=True,
        help=f"Folder for the model and {PREPROCESSING}.",
    )
    parser.add_argument(
        "--format",
        choices=MODEL_FORMATS,
        default="onnx",
        help="onnx (the default), for ONNX Runtime and others, or torch, for torch.export.load.",
    )
    parser.add_argument(
        "--check",
        metavar="FOLDER|IMAGE",
        nargs="+",
        default=[],
        help="Images for which the model must give the checkpoint's own embeddings; of more than "
        f"{CHECKED_IMAGES} so many at even steps.",
    )
    return parser.parse_args(argv, Flags())


def run(flags: Flags) -> None:
    """Find the images of the check, load the network, export it."""
    from programs import images, model_file, trained

    files = images.at(flags.check, "--check")
    network = trained.load(flags.checkpoint, "cpu")
    LOG.info("%s", model_file.export(network, flags.format, flags.to, files))


if __name__ == "__main__":
    sys.exit(main())
