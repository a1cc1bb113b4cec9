"""Tables as CSV: spreadsheets evaluate nothing in them, our programs read what was meant."""

import csv
import io

import pytest

from utilities.rows import as_csv, as_written, csv_of

FORMULAS = ["=1+1", "+a", "-b", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''-x", '=HYPERLINK("x")']
NAMES = ["Auklet", "a-b", "'quoted'", "it's", "-1", "+1.5e-3", "-.5", "", "a\rb", "a\nb", 'say "a"']


@pytest.mark.parametrize("name", [*FORMULAS, *NAMES])
def test_what_is_written_is_read_again(name):
    text = csv_of([["class", name], [name, 1]])
    header, row = csv.reader(io.StringIO(text, newline=""))
    assert [as_written(cell) for cell in (*header, *row)] == ["class", name, name, "1"]
    cells = {header[1], row[0]}
    assert cells == ({f"'{name}"} if name in FORMULAS else {name})


def test_numbers_are_no_texts():
    assert csv_of([[-1.5, "-1.5", "-inf ", None]]) == "-1.5,-1.5,'-inf ,\n"


def test_tables_of_records():
    rows = [{"class": "=a", "share": -0.5}, {"class": "b", "share": 1}]
    assert as_csv(rows) == "class,share\n'=a,-0.5\nb,1\n"
