"""The fuzz of inputs still runs: an odd input of each kind ends in a result or in a sentence."""

from benchmark_scripts import FOLDER, smoke

GENERATORS = {
    "faults/cases.py",
    "faults/mutations.py",
    "faults/odd_archives.py",
    "faults/odd_images.py",
    "faults/odd_places.py",
    "faults/odd_tensors.py",
    "faults/running.py",
    "faults/samples.py",
}


def test_one_odd_input_of_each_kind(tmp_path):
    output = smoke("faults/fuzz.py", tmp_path)
    rows = [line for line in output.splitlines() if line.startswith("| ")]
    assert rows[-1].startswith("| all | 15 |") and len(rows) == 17, output
    assert "FAULT" not in output
    assert all((FOLDER / file).is_file() for file in GENERATORS)
