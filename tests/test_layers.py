"""The house: who may import whom, and what its code may look like, read from the code."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    "criteria",
    "batchminer",
    "metrics",
    "datasampler",
    "datasets",
    "architectures",
    "language_guidance",
)
ROOMS = {"utilities", *PARTS, "evaluation", "training"}
# Room or module -> what it may import beside itself and packages.
ALLOWED = {
    "utilities": set(),
    **{part: {"utilities"} for part in PARTS},
    "evaluation": {"metrics", "utilities"},
    "training": {"utilities"},
    "parameters": {"utilities"},
    "build": {*ROOMS, "parameters"},
    "programs": {*ROOMS, "parameters", "build"},
    "main": {*ROOMS, "parameters", "build"},
    "docs": set(),
}
# Heavy or optional packages, and the only files that import them, inside a function.
CONFINED = {
    "wandb": {"utilities/online.py"},
    "tensorboard": {"utilities/tensorboard.py"},
    "faiss": {"evaluation/faiss_library.py"},
    "open_clip": {"language_guidance/language_models.py", "utilities/open_clip_models.py"},
    "peft": {"architectures/low_rank.py"},
    "transformers": {"language_guidance/language_models.py", "language_guidance/pooling.py"},
    "onnxruntime": {"programs/model_file.py"},
    "pyarrow": {"datasets/table.py", "programs/embedding_file.py"},
    "matplotlib": {
        "utilities/pictures.py",
        "evaluation/figures.py",
        "evaluation/retrieved_classes.py",
        "programs/results/curves.py",
    },
    "pytorch_metric_learning": {"utilities/pml.py"},
}
SEES_OPT = {"main.py", "build.py", "parameters.py"}
MOST_PARAMETERS = 8
LONGEST_LINE = 100
NOT_OURS = {"Datasets", "Training_Results", "wandb"}  # made by runs


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    """Its folder, or the module itself where it lies in the root."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def python_files() -> list[Path]:
    folders = [
        folder
        for folder in ROOT.iterdir()
        if folder.is_dir() and folder.name not in NOT_OURS and not folder.name.startswith(".")
    ]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    return sorted([*ROOT.glob("*.py"), *files])


FILES = python_files()
PRODUCT = [path for path in FILES if room_of(path) not in ("tests", "benchmarks")]


def imported(node: ast.AST) -> set[str]:
    """The first part of what a statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module, "imports are absolute"
        return {node.module.split(".")[0]}
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
        name = ast.unparse(node.args[0]).lstrip("f").strip("'")
        return {name.split(".")[0]}
    return set()


def imports(path: Path) -> set[str]:
    """All that a file imports, wherever."""
    return set().union(*map(imported, ast.walk(tree(path))))


def imports_when_loaded(path: Path) -> set[str]:
    """What a file imports outside functions, and not for the types alone."""
    return set().union(*map(imported, _outside_functions(tree(path))))


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        is_for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not is_function and not is_for_types:
            yield child
            yield from _outside_functions(child)


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Those of a file with their names, methods as `<class>.<name>`."""
    for node in ast.walk(tree(path)):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                above = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
                yield above + child.name, child


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names of the positional and keyword-only parameters, without self."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [argument.arg for argument in named if argument.arg not in ("self", "cls")]


def names_in(path: Path) -> set[str]:
    """All that a file calls by a name: variables, parameters, imports, attributes."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.alias):
            names.add(node.name)
    return names


def test_every_room_stands_in_the_table():
    assert {room_of(path) for path in PRODUCT} == ALLOWED.keys()


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_only_from_the_lines_above(room):
    ours = {*ALLOWED, "tests", "benchmarks"}
    wrong = {}
    for path in PRODUCT:
        forbidden = imports(path) & (ours - ALLOWED[room] - {room})
        if room_of(path) == room and forbidden:
            wrong[name_of(path)] = forbidden
    assert not wrong


def test_parameters_loads_nothing_heavy():
    code = (
        "import sys, parameters\n"
        "print(*{name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert loaded.returncode == 0, loaded.stderr  # without site packages
    assert set(loaded.stdout.split()) <= {"parameters", "utilities", "__main__"}


def test_optional_packages_are_confined_and_lazy():
    elsewhere, at_once = {}, {}
    for path in PRODUCT:
        confined = imports(path) & CONFINED.keys()
        if wrong := {package for package in confined if name_of(path) not in CONFINED[package]}:
            elsewhere[name_of(path)] = wrong
        if too_early := imports_when_loaded(path) & CONFINED.keys():
            at_once[name_of(path)] = too_early
    assert not elsewhere and not at_once


def test_the_table_of_optional_packages_is_current():
    for package, names in CONFINED.items():
        assert all(package in imports(ROOT / name) for name in names), package


def test_the_settings_end_at_build():
    scripts = [path for path in FILES if room_of(path) != "tests"]
    seen_by = {name_of(path) for path in scripts if "opt" in names_in(path)}
    assert seen_by <= SEES_OPT


def test_there_are_no_bags():
    assert not [name_of(path) for path in FILES if "SimpleNamespace" in names_in(path)]


def test_functions_have_few_parameters():
    """Constructors of objectives have as many as their papers have hyper-parameters."""
    long = {}
    for path in [path for path in FILES if room_of(path) != "tests"]:
        for name, function in functions(path):
            is_objective = room_of(path) == "criteria" and name.endswith(".__init__")
            if not is_objective and len(parameters(function)) > MOST_PARAMETERS:
                long[f"{name_of(path)}: {name}"] = len(parameters(function))
    assert not long


def test_lines_are_short():
    long = []
    for path in FILES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if len(line) > LONGEST_LINE:
                long.append(f"{name_of(path)}:{number}")
    assert not long
