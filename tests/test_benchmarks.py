"""The benchmarks still run, each with `--smoke`, down to its table."""

import ast
from pathlib import Path

import pytest
from benchmark_scripts import FOLDER, smoke

import criteria

# Script -> how the rows of its table begin.
ROWS = {
    "catalogue.py": ["| miner semihard | "],
    "faults/kill.py": ["SIGKILL  ", "SIGTERM  ", "no room  "],
    "micro_batch.py": ["| 8 | 8 | ", "| 8 | 4 | "],
    "processes.py": ["| 2 | ", "| images/s, one process of two threads | "],
    "epoch_cost.py": ["| training | ", "| evaluation | ", "| whole epoch | "],
    "objectives.py": [f"{name}  " for name in criteria.REGISTRY],
    "step.py": [
        "| training, an epoch | ",
        "| search, 200 images | ",
        "| clusters, 200 images | ",
        "| main.py --help | ",
        "| main.py --list | ",
    ],
}

HELPERS = {"shared.py"}  # of the scripts, by which they are run


def test_every_benchmark_is_run_by_a_test():
    """One of the files beside this one names it, by its path below benchmarks/."""
    named = set()
    for file in Path(__file__).parent.glob("test_benchmarks*.py"):
        tree = ast.parse(file.read_text())
        named |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.py")} <= named


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.name)
def test_every_sweep_is_one_that_main_takes(file, tmp_path, capsys):
    from programs import sweep

    assert sweep.main([str(file), "--dry_run", "--", "--source_path", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("python main.py --") >= 9


@pytest.mark.parametrize("script", ROWS)
def test_it_runs_and_prints_its_table(script, tmp_path):
    output = smoke(script, tmp_path)
    lines = output.splitlines()
    missing = [row for row in ROWS[script] if not any(line.startswith(row) for line in lines)]
    assert not missing, output
