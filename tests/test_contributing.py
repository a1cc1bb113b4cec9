"""CONTRIBUTING.md, done literally: a copy of the tree with every block of the page in its place.

The copy must be formatted and linted, name its new parts, pass the tests that sweep them, and train
with all of them at once. CHANGELOG.md knows the version of the program.
"""

import ast
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from utilities.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
CHANGES = (ROOT / "CHANGELOG.md").read_text()
CI = (ROOT / ".ci" / "run").read_text()
# The line above a block may begin with a sentence: "Only if it has an option. In `build.py`, ...".
PLACE = re.compile(
    r"(?:^|\. |: )(?:New file `(?P<new>[^`]+)`"
    r"|In `(?P<file>[^`]+)`, (?P<where>in|before|after) `(?P<anchor>[^`]+)`"
    r"|At the end of `(?P<end>[^`]+)`):$"
)
BLOCK = re.compile(r"^(?P<above>[^\n]*)\n\n```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
NAMES = {
    "--loss": "soft_margin",
    "--batch_mining": "easy_positive",
    "--data_sampler": "class_frequency",
    "--evaluation_metrics": "mrr@K",
    "--dataset": "filelist",
    "--arch": "conv4",
    "--language_model": "trigrams",
    "--optim": "rmsprop",
}
NOT_LISTED = {"--arch"}  # any of timm's
WITH_FLAGS = {
    "soft_margin": "--loss_soft_margin_scale",
    "easy_positive": "--miner_easy_positive_margin",
    "class_frequency": "--data_class_frequency_power",
}
# Which tests take up a part by themselves, or hold its case.
SWEPT_BY = {
    "soft_margin": ("criteria/test_criterion_base.py", "criteria/test_against_loops.py"),
    "easy_positive": ("batchminer/test_every_miner.py", "batchminer/test_pml.py"),
    "class_frequency": ("datasampler/test_samplers.py",),
    "conv4": ("architectures/test_embedding_network.py",),
    "rmsprop": ("training/test_optimizers.py",),
}
# Tests that are not of one part, but hold what is said of all: registries, flags, cases, rooms.
OF_ALL_PARTS = (
    "catalogue",
    "choices_are",
    "signatures",
    "who_mines",
    "table_of_miners",
    "documentation",
    "each_choice",
    "every_objective_is_compared",
    "all_registered_miners",
    "options_are_those",
    "option_that_no_sampler",
    "few_parameters",
    "lone_image",
    "known_ones",
    "(kinds_of_embeddings and 20-wide-cosine)",
)
SWEEPS = (
    "tests/test_parameters.py",
    "tests/test_layers.py",
    "tests/criteria",
    "tests/batchminer",
    "tests/datasampler",
    "tests/metrics",
    "tests/evaluation/test_against_brute_force.py",
    "tests/datasets/test_filelist.py",
    "tests/architectures",
    "tests/language_guidance/test_language_models.py",
    "tests/training",
)


class Step(NamedTuple):
    """A block of the page: `anchor` is the end of a table's name, or how a line begins."""

    file: str
    where: str  # new, end, in, before or after
    anchor: str
    code: str


def steps() -> Iterator[Step]:
    """The blocks of the page in their order."""
    blocks = list(BLOCK.finditer(PAGE))
    assert len(blocks) == PAGE.count("```python")
    for block in blocks:
        place = PLACE.search(block["above"])
        assert place, f"nothing says where this goes: {block['above']}"
        if place["new"]:
            yield Step(place["new"], "new", "", block["code"])
        elif place["end"]:
            yield Step(place["end"], "end", "", block["code"])
        else:
            yield Step(place["file"], place["where"], place["anchor"], block["code"])


STEPS = list(steps())


def apply(step: Step, root: Path) -> None:
    """Does in the tree below `root` what the page says."""
    path = root / step.file
    if step.where == "new":
        assert not path.exists(), f"{step.file} is not new"
        path.write_text(step.code)
        return
    lines = path.read_text().splitlines(keepends=True)
    if step.where == "end":
        path.write_text("".join([*lines, "\n\n", step.code]))
        return
    place = end_of(step, lines) if step.where == "in" else line_of(step, lines)
    margin = " " * 4 if step.where == "in" else indentation(lines[place])
    code = [margin + line if line.strip() else line for line in step.code.splitlines(keepends=True)]
    if step.code.startswith(("def ", "class ")):
        code += ["\n", "\n"]
    place += step.where == "after"
    path.write_text("".join([*lines[:place], *code, *lines[place:]]))


def end_of(step: Step, lines: list[str]) -> int:
    """The line that closes the table or list of that name."""
    closing = []
    for node in ast.parse("".join(lines)).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if [ast.unparse(target) for target in targets if target] == [step.anchor]:
            assert node.end_lineno is not None
            closing.append(node.end_lineno - 1)
    assert len(closing) == 1, f"{step.file} has {len(closing)} times {step.anchor}"
    return closing[0]


def line_of(step: Step, lines: list[str]) -> int:
    """The one line that begins so."""
    places = [place for place, line in enumerate(lines) if line.lstrip().startswith(step.anchor)]
    assert len(places) == 1, f"{step.file} has {len(places)} lines that begin with {step.anchor}"
    return places[0]


def indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def run(*command: str, cwd: Path) -> str:
    """What the command says; it must succeed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-5000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The tree with all new parts, and docs/flags.md written anew."""
    if not (ROOT / ".git").exists():
        pytest.skip("the files of the tree are those that git tracks: this is no checkout")
    root = tmp_path_factory.mktemp("copy") / "tree"
    tracked = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)
    for step in STEPS:
        apply(step, root)
    assert "`python parameters.py > docs/flags.md`" in PAGE
    (root / "docs" / "flags.md").write_text(run(sys.executable, "parameters.py", cwd=root))
    return root


@pytest.fixture(scope="module")
def filelist(tmp_path_factory) -> Path:
    """8 classes of 6 noisy images each, a colour a class."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    rows = []
    for label in range(8):
        colour = random.uniform(40, 215, 3)
        for number in range(6):
            pixels = colour + random.normal(0, 20, (24, 24, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
                folder / f"{label}_{number}.png"
            )
            rows.append(f"colour_{label} {label}_{number}.png\n")
    (folder / "list.txt").write_text("".join(rows))
    return folder / "list.txt"


def test_the_checks_are_those_of_continuous_integration():
    lines = re.findall(r"^bash requirements\.sh (.+)$", CI, re.MULTILINE)
    asked = [re.sub(r" --(quiet|durations=\d+)", "", line) for line in lines]
    (command,) = re.findall(r'^bash requirements\.sh bash -c "(.+)"$', PAGE, re.MULTILINE)
    assert command.split(" && ") == asked


def test_what_the_page_names_is_there(copy):
    """Files, folders, and the tables `X` of `file.py`."""
    for path in re.findall(r"`((?:\w+/)+\w+\.py|\w+\.(?:sh|md))`", PAGE):
        assert (copy / path).is_file(), path
    for folder in re.findall(r"`((?:\w+/)+)`", PAGE):
        assert (copy / folder).is_dir(), folder
    for names, path in re.findall(r"((?:`\w+`(?:,| and)?\s+)+)of\s+`([\w/]+\.py)`", PAGE):
        text = (copy / path).read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(?:def )?{name}\b", text, re.MULTILINE), (name, path)


def test_the_new_parts_are_formatted_and_linted(copy):
    touched = sorted({step.file for step in STEPS})
    run(sys.executable, "-m", "ruff", "format", "--check", *touched, cwd=copy)
    run(sys.executable, "-m", "ruff", "check", "--no-cache", *touched, cwd=copy)


def test_the_list_names_the_new_parts(copy):
    said = run(sys.executable, "main.py", "--list", cwd=copy)
    for flag, name in NAMES.items():
        found = re.search(rf"^  {re.escape(name)}  +\S.*\w", said, re.MULTILINE)
        assert bool(found) == (flag not in NOT_LISTED), name
    assert re.search(r"^  soft_margin .* \[miner: any\]$", said, re.MULTILINE)


@pytest.mark.parametrize("name", WITH_FLAGS)
def test_help_shows_the_flags_of_a_new_part(copy, name):
    said = run(sys.executable, "main.py", "--help", name, cwd=copy)
    assert re.search(rf"^  {WITH_FLAGS[name]} X", said, re.MULTILINE)


def test_the_sweeps_take_the_new_parts(copy):
    names = [name.partition("@")[0] for name in NAMES.values()]
    chosen = " or ".join([*names, *OF_ALL_PARTS])
    quietly = ("-n", "0", "-q", "-rp", "-k", chosen)
    said = run(sys.executable, "-m", "pytest", *quietly, *SWEEPS, cwd=copy)
    for name, files in SWEPT_BY.items():
        for file in files:
            assert re.search(rf"^PASSED tests/{file}::.*{name}", said, re.MULTILINE), (name, file)


def test_a_run_trains_with_all_new_parts_at_once(copy, filelist, tmp_path):
    flags = dict(NAMES) | {"--evaluation_metrics": "mrr@2", "--source_path": str(filelist)}
    flags |= {"--save_path": str(tmp_path), "--cache_path": str(tmp_path / "cache")}
    words = [word for pair in flags.items() for word in pair]
    small = """
        --not_pretrained --image_size 32 --embed_dim 8 --bs 8 --lr 1e-3 --kernels 0 --device cpu
        --n_epochs 1 --no_train_metrics --no_figures --savename run --language_distill_w 1
        --loss_soft_margin_scale 4 --miner_easy_positive_margin 0.2 --data_class_frequency_power 1
    """
    said = run(sys.executable, "main.py", *words, *small.split(), cwd=copy)
    assert "has no effect" not in said
    results = json.loads((tmp_path / "filelist" / "run" / "results.json").read_text())
    losses, measured = results["metrics"]["Train"], results["metrics"]["Test"]
    assert all(math.isfinite(losses[part]["last"]) for part in ("objective", "guidance"))
    assert 0 < measured["embeds_mrr: mrr@2"]["last"] <= 1


def test_the_changelog_knows_the_version():
    versions = re.findall(
        r"^## \[?(\d+\.\d+\.\d+)\]? - (\d{4}-\d{2}-\d{2})$", CHANGES, re.MULTILINE
    )
    assert versions[0][0] == VERSION
    assert [date for _, date in versions] == sorted((date for _, date in versions), reverse=True)
