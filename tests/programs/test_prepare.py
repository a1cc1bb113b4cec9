"""What `programs.prepare --help` repeats of the benchmarks is what they are."""

import datasets
from datasets.prepare import layouts
from programs import prepare


def test_the_help_says_what_the_benchmarks_and_their_layouts_are():
    assert prepare.KNOWN.keys() == datasets.BENCHMARKS.keys() == layouts.LAYOUTS.keys()
    for name, known in prepare.KNOWN.items():
        facts = datasets.BENCHMARKS[name].FACTS
        titles = tuple(layout.title for layout in layouts.LAYOUTS[name])
        assert known == (facts.source, bool(facts.url), titles)
