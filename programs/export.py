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
LICENSE = "other"


class Flags(command_line.CheckpointFlags):
    to: Path
    format: str
    check: list[str]
    license: str | None
    push: str | None


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
        help="onnx (the default), for ONNX Runtime and others; torch, for torch.export.load; or "
        "hub, a folder with a model card that timm opens (hf-hub: and local-dir:).",
    )
    parser.add_argument(
        "--check",
        metavar="FOLDER|IMAGE",
        action="extend",
        nargs="+",
        default=[],
        help="Images for which the model must give the checkpoint's own embeddings; of more than "
        f"{CHECKED_IMAGES} so many at even steps.",
    )
    parser.add_argument(
        "--license",
        metavar="ID",
        help="Of the hub's identifiers, such as apache-2.0, for the model card of --format hub "
        f"({LICENSE}).",
    )
    parser.add_argument(
        "--push",
        metavar="USER/NAME",
        help="Upload the files of --format hub, and no others of --to, to that repository of the "
        "Hugging Face hub.",
    )
    flags = parser.parse_args(argv, Flags())
    for flag, given in {"--push": flags.push, "--license": flags.license}.items():
        if given and flags.format != "hub":
            parser.error(f"argument {flag}: it takes --format hub")
    return flags


def run(flags: Flags) -> None:
    """Find the images of the check, load the network, export it, upload it if asked to."""
    from programs import hub_folder, images, model_file, trained

    if flags.push:
        hub_folder.require_token(flags.push)
    files = images.at(flags.check, "--check")
    network = trained.load(flags.checkpoint, "cpu")
    if not files:  # whose embeddings would tell
        network.require_finite_weights()
    texts = {}
    if flags.format == "hub":
        texts[hub_folder.CARD] = hub_folder.card(
            flags.checkpoint, network, flags.license or LICENSE
        )
    LOG.info("%s", model_file.export(network, flags.format, flags.to, files, texts))
    if flags.push:
        LOG.info("Uploaded: %s", hub_folder.push(flags.to, flags.push))


if __name__ == "__main__":
    sys.exit(main())
