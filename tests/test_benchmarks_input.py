"""The benchmarks of the input pipeline still run: each with `--smoke`, down to its table."""

import pytest
from benchmark_scripts import FOLDER, smoke

ROWS = {
    "input/opening.py": [
        "| cub200 |",
        "| cars196 |",
        "| online_products |",
        "| inshop |",
        "| folder |",
        "| table |",
    ],
    "input/recall.py": [
        "--decoding exact",
        "--decoding fast",
        "--cache ram --cache_size 0",
        "--cache ram --cache_size 256",
        "--cache ram --cache_size 110",
    ],
    "input/throughput.py": [
        "the paper's",
        "ours, --decoding exact",
        "ours  ",
        "ours, --cache disk",
        "ours, --cache ram  ",
        "ours, --cache ram --cache_size 256",
        "decoding alone",
    ],
}


def test_every_benchmark_of_the_input_is_run():
    assert {f"input/{path.name}" for path in (FOLDER / "input").glob("*.py")} == ROWS.keys()


@pytest.mark.parametrize("script", ROWS)
def test_it_runs_and_prints_its_table(script, tmp_path):
    output = smoke(script, tmp_path)
    table = output.splitlines()[-len(ROWS[script]) :]
    assert all(line.startswith(row) for line, row in zip(table, ROWS[script])), output
