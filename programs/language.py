"""What language guidance would read, seen before it trains.

python -m programs.language --dataset cub200 --source_path DATA --language_pseudoclass
python -m programs.language --config configs/demo.yaml --against clip --to seen
"""

import json
import logging
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import parameters
from programs import command_line
from utilities.errors import UserError, named, on_one_line

if TYPE_CHECKING:
    from numpy import ndarray

    from datasets import ImageSplit
    from evaluation.language import View
    from language_guidance import Guidance
    from utilities.runtime import Runtime

LOG = logging.getLogger("programs.language")
PRINTED = 10  # classes on the console
PRINTED_TEXTS = 5  # of each
OF_WORDS = ("vectors:", "matrix:")  # models that put no text into a primer
SHEETS = 16  # of pictures of classes
EPILOG = """All other flags are those of main.py, such as --dataset, --source_path, --class_text and
--language_*. The folder gets class_texts.csv (class, text, probability, share), similarities.csv,
nearest_classes.csv, similarities.png and classes_1.png and so on; with --against, agreement.json
and agreement.png too. --no_figures leaves the pictures out."""


class Flags(Namespace):
    to: Path | None
    against: str | None
    settings: parameters.Settings


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 wrong flag or file, 130 interrupted."""
    return command_line.run("language", run, parse(argv))


def parse(argv: list[str] | None) -> Flags:
    parser = command_line.build_parser(
        "language",
        "Show what language guidance would read of the training classes: texts or pseudolabels, "
        "pictures, similarities and nearest classes. Nothing is trained.",
    )
    parser.usage = f"{parser.prog} [flags] [FLAGS OF main.py]"
    parser.epilog = EPILOG
    parser.add_argument(
        "--to",
        metavar="FOLDER",
        type=command_line.place,
        help="New or empty folder for tables and figures (the next free "
        "<save_path>/<dataset>/Language).",
    )
    parser.add_argument(
        "--against",
        metavar="MODEL",
        help="Another --language_model: how far the two agree on which classes are alike.",
    )
    flags, words = parser.parse_known_args(argv, Flags())
    flags.settings, problems = _examined(words)
    if not problems and flags.against:
        _, problems = _examined([*words, "--language_model", flags.against])
        problems = [_of_against(problem) for problem in problems]
        if flags.against == flags.settings.language_model:
            problems.append(f"--against {flags.against} is the --language_model itself.")
    if problems:
        parser.exit(
            2, "".join(f"{parser.prog}: error: {on_one_line(problem)}\n" for problem in problems)
        )
    return flags


def _examined(words: list[str]) -> tuple[parameters.Settings, list[str]]:
    """The settings of a guided run, whatever the weight, and what is wrong with them."""
    settings, problems = parameters.examine(words)
    if settings.language_distill_w == 0:
        settings, problems = parameters.examine([*words, "--language_distill_w", "1"])
    return settings, problems


def _of_against(problem: str) -> str:
    """A message on the model of --against, whose weights lie at its own name or nowhere."""
    places = "--against hf:PATH or clip:<model>/PATH"
    problem = problem.replace("--language_weights PATH", places)
    return problem.replace("--language_model", "--against")


def run(flags: Flags) -> None:
    """Read the data, encode, and show."""
    import build
    from evaluation import language

    settings = flags.settings
    _require_free(flags.to)
    runtime = build.build_runtime(settings)
    for notice in _notices(settings, flags.against):
        LOG.info("%s", notice)
    training = build.build_splits(settings)[0].training
    guidance = _guidance(settings, training, runtime)
    view = build.language_view(training, guidance)
    matrices = {settings.language_model: view.similarities}
    if flags.against:
        others = _guidance_against(flags.against, settings, training, runtime)
        matrices = {flags.against: build.language_view(training, others).similarities} | matrices
    folder = _made(flags.to, settings)
    build.write_class_texts(training, guidance, folder)
    language.write_tables(folder, view)
    if not settings.no_figures:
        read = build.image_reader(training)
        language.draw(folder, view, read, in_matrix=language.DRAWN, sheets=SHEETS)
        if flags.against:
            language.draw_matrix(folder / "agreement.png", matrices, view)
    _print_view(view, build.guidance_source(settings, training), settings)
    if flags.against:
        _show_agreement(folder, matrices)
    print(f"Tables and figures: {folder}")


def _guidance(
    settings: parameters.Settings, training: "ImageSplit", runtime: "Runtime"
) -> "Guidance":
    import build

    guidance = build.build_guidance(settings, training, runtime)
    if guidance is None:
        raise ValueError("A run without a weight of guidance has none.")
    return guidance


def _guidance_against(
    model: str, settings: parameters.Settings, training: "ImageSplit", runtime: "Runtime"
) -> "Guidance":
    try:
        return _guidance(_with_model(settings, model), training, runtime)
    except UserError as error:
        raise UserError(_of_against(str(error))) from error


def _with_model(settings: parameters.Settings, model: str) -> parameters.Settings:
    of_other = {"language_model": model, "language_weights": None}
    return parameters.Settings(vars(settings) | of_other)


def _notices(settings: parameters.Settings, against: str | None) -> list[str]:
    """A sentence for each flag that says nothing of what is shown."""
    other = [_with_model(settings, against)] if against else []
    return parameters.notices_of_reading([settings, *other])


def _require_free(folder: Path | None) -> None:
    if folder is None or not folder.exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise UserError(f"--to {folder} is there and holds something; give a new or empty folder.")


def _made(folder: Path | None, settings: parameters.Settings) -> Path:
    """The folder asked for, or the next free one."""
    from utilities import run_folder

    if folder is None:
        return run_folder.create(settings.save_path, settings.dataset, "Language")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--to {folder} cannot be made ({error.strerror}).") from error
    return folder


def _print_view(view: "View", source: str, settings: parameters.Settings) -> None:
    if settings.language_control in parameters.WITHOUT_TEXTS:
        print(f"{settings.dataset}: no texts, control {settings.language_control}")
    else:
        print(f"{settings.dataset}: {settings.language_model} reads {source}")
        if not settings.language_model.startswith(OF_WORDS):
            print(f"each text in {named(settings.language_primer)}")
    if left_out := view.left_out():
        print(left_out)
    for place, shown in enumerate(view.classes[:PRINTED]):
        near = ", ".join(f"{name} {similarity:.2f}" for name, similarity in view.near(place)[:3])
        texts = f": {on_one_line(named(shown.texts, PRINTED_TEXTS))}" if shown.texts else ""
        print(f"  {on_one_line(shown.name)}{texts}")
        print(f"    near: {on_one_line(near)}")
    if len(view.classes) > PRINTED:
        print(f"  and {len(view.classes) - PRINTED} more in the tables")


def _show_agreement(folder: Path, matrices: "dict[str, ndarray]") -> None:
    """agreement.json, and what it says."""
    import torch

    from language_guidance import agreement
    from utilities.run_folder import write_atomically

    first, second = map(torch.from_numpy, matrices.values())
    agreed = agreement(first, second)
    record = {"models": list(matrices), "classes": len(first), **agreed._asdict()}
    write_atomically(folder / "agreement.json", json.dumps(record, indent=2) + "\n")
    print(
        f"{' and '.join(matrices)}: rank correlation {agreed.correlation:.2f} over all pairs of "
        f"{len(first)} classes; of the {agreed.neighbours} nearest classes {agreed.common:.0%} are "
        f"the same ({agreed.by_chance:.0%} by chance)"
    )


if __name__ == "__main__":
    sys.exit(main())
