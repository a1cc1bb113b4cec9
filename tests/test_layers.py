"""Who may import whom: the table of the design, read from the code."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "utilities": set(),
    **{
        room: {"utilities"}
        for room in (
            "criteria",
            "batchminer",
            "metrics",
            "datasampler",
            "datasets",
            "architectures",
            "language_guidance",
        )
    },
    "evaluation": {"utilities", "metrics"},
}
# Programs of their own beside main.py, which go from a checkpoint and images to files; nothing of
# main's level imports them.
PROGRAMS = {
    f"evaluation/{name}.py": {"datasets", "architectures"}
    for name in ("trained", "embed", "search", "export")
}
ROOMS = {*ALLOWED, "parameters", "build", "main"}
# Heavy or optional packages, and the only files that import them (inside a function where they are
# optional).
CONFINED = {
    "wandb": {"utilities/logger.py"},
    "faiss": {"evaluation/faiss_library.py"},
    "open_clip": {"language_guidance/language_models.py"},
    "transformers": {"language_guidance/language_models.py"},
    "onnxruntime": {"evaluation/export.py"},
    "pyarrow": {"datasets/table.py", "evaluation/embedding_file.py"},
    "matplotlib": {"utilities/logger.py", "evaluation/figures.py"},
    "pytorch_metric_learning": {"utilities/pml.py"},
}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = (
        tree.body if top_level_only else list(ast.walk(tree))
    )  # a list, because it is read twice
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def imported_modules(path: Path) -> set[str]:
    """Whole names, of `import evaluation.embed` as of `from evaluation import embed`."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {
        name
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    }


def sources() -> list[Path]:
    return [path for room in ALLOWED for path in sorted((ROOT / room).rglob("*.py"))]


def test_rooms_import_only_from_the_lines_above():
    wrong = {}
    for path in sources():
        name, room = str(path.relative_to(ROOT)), path.relative_to(ROOT).parts[0]
        if found := imports(path) & (ROOMS - ALLOWED[room] - {room} - PROGRAMS.get(name, set())):
            wrong[name] = found
    assert not wrong
    assert all(imports(ROOT / name) & exempt for name, exempt in PROGRAMS.items())


def test_programs_are_entry_points_that_no_room_imports():
    modules = {name.removesuffix(".py").replace("/", ".") for name in PROGRAMS}
    for path in sources() + [ROOT / "main.py", ROOT / "build.py"]:
        if str(path.relative_to(ROOT)) not in PROGRAMS:
            assert not modules & imported_modules(path), path


def test_parameters_imports_no_room_and_nothing_heavy():
    assert imports(ROOT / "parameters.py", top_level_only=True) <= {
        "argparse",
        "collections",
        "json",
        "os",
        "re",
        "sys",
        "textwrap",
        "typing",
        "utilities",
    }
    assert {
        module
        for module in imported_modules(ROOT / "parameters.py")
        if module.startswith("utilities") and module.count(".") == 1
    } == {"utilities.flags", "utilities.version", "utilities.run_folder"}
    assert imports(ROOT / "utilities/flags.py", top_level_only=True) <= sys.stdlib_module_names


def test_optional_packages_are_confined_and_lazy():
    for path in sources() + [ROOT / "main.py", ROOT / "build.py"]:
        name = str(path.relative_to(ROOT))
        assert not {
            package for package in imports(path) & CONFINED.keys() if name not in CONFINED[package]
        }, name
        assert not imports(path, top_level_only=True) & CONFINED.keys(), name


def test_only_main_sees_the_settings():
    for path in sources():
        assert not {
            node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)
        } & {"opt"}, path
