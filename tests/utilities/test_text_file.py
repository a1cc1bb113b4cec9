"""Text files of any editor, wherever one is read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from datasets import class_text, inshop, online_products
from datasets.prepare import layouts
from utilities import text_file

ROOT = Path(__file__).resolve().parents[2]
PRODUCTS = "image_id class_id super_class_id path\n1 7 1 bicycle_final/a.JPG\n"
CLOTHES = "1\nimage_name item_id evaluation_status\nimg/WOMEN/a.jpg id_1 train\n"
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_lists_of_any_editor(tmp_path, encoding):
    def saved(text: str, name: str = "list.txt"):
        path = tmp_path / name
        path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
        return path

    assert text_file.lines_of(saved("a\nKäfer\n")) == ["a", "Käfer"]
    assert online_products.read_list(saved(PRODUCTS)) == [(7, "bicycle_final/a.JPG")]
    assert inshop.read_partition(saved(CLOTHES)) == [("WOMEN/a.jpg", "id_1", "train")]
    records = json.dumps([{"item": "id_1", "description": ["a"]}])
    assert inshop.read_descriptions(saved(records)) == {"id_1": ("a",)}
    assert layouts._pairs(str(saved("1 a b\n"))) == {"1": "a b"}
    assert class_text.read(str(saved('{"a": "b"}', "texts.json"))) == {"a": ("b",)}
    assert class_text.read(str(saved("class,text\na,b\n", "t.csv"))) == {"a": ("b",)}


def test_other_encodings(tmp_path):
    (tmp_path / "a.txt").write_bytes("a\nKäfer\n".encode("latin-1"))
    with pytest.raises(ValueError, match="line 2 is no UTF-8 text"):
        text_file.read_text(tmp_path / "a.txt")
    assert text_file.lines_of(tmp_path / "a.txt", errors="replace")[0] == "a"


def test_what_a_shell_hands_over_is_read():
    code = "import sys; from utilities import text_file; print(text_file.lines_of(sys.argv[1]))"
    command = ["bash", "-c", f"{sys.executable} -c '{code}' <(echo told)"]
    assert subprocess.check_output(command, cwd=ROOT, text=True) == "['told']\n"


def test_a_pipe_is_not_waited_for(pipe):
    with pytest.raises(OSError, match="a pipe or a device"):
        text_file.read_text(pipe)
