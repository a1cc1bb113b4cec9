"""The measurements of language guidance, at their smallest."""

from benchmark_scripts import smoke


def test_it_prints_its_tables(tmp_path):
    output = smoke("guidance.py", tmp_path)
    rows = [line.split(" | ") for line in output.splitlines() if line.startswith("| ")]
    assert [len(row) for row in rows] == [4] * 5 + [5] * 7
    assert all(float(row[-1].removesuffix(" |")) < 1e-5 for row in rows[6:])
