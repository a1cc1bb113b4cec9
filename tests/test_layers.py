"""Who may import whom: the table of the design, read from the code."""
import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "utilities": set(),
    **{room: {"utilities"} for room in ("criteria", "batchminer", "metrics", "datasampler", "datasets", "architectures", "language_guidance")},
    "evaluation": {"utilities", "metrics"},
}
ROOMS = {*ALLOWED, "parameters", "build", "main"}
# Heavy or optional packages, and the only files that import them (inside a function where they are optional).
CONFINED = {"wandb": {"utilities/logger.py"}, "faiss": {"evaluation/faiss_library.py"}, "open_clip": {"language_guidance/language_models.py"},
            "transformers": {"language_guidance/language_models.py"}, "matplotlib": {"utilities/logger.py"}, "pytorch_metric_learning": {"utilities/pml.py"},
            "pyarrow": {"datasets/table.py"}}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def sources() -> list[Path]:
    return [path for room in ALLOWED for path in sorted((ROOT / room).rglob("*.py"))]


def test_rooms_import_only_from_the_lines_above():
    wrong = {str(path.relative_to(ROOT)): found for path in sources()
             if (found := imports(path) & (ROOMS - ALLOWED[path.relative_to(ROOT).parts[0]] - {path.relative_to(ROOT).parts[0]}))}
    assert not wrong


def test_parameters_imports_no_room_and_nothing_heavy():
    assert imports(ROOT / "parameters.py", top_level_only=True) <= {"argparse", "difflib", "json", "math", "os", "re", "pathlib"}


def test_optional_packages_are_confined_and_lazy():
    for path in sources() + [ROOT / "main.py", ROOT / "build.py"]:
        name = str(path.relative_to(ROOT))
        assert not {package for package in imports(path) & CONFINED.keys() if name not in CONFINED[package]}, name
        assert not imports(path, top_level_only=True) & CONFINED.keys(), name


def test_only_main_sees_the_settings():
    for path in sources():
        assert not {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)} & {"opt"}, path
