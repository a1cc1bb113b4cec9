"""Odd inputs of every kind, each given to a program: it ends in a result or in one sentence.

    python benchmarks/faults/fuzz.py --count 300 --seed 0
    python benchmarks/faults/fuzz.py --kinds tables images --count 500     # some kinds
    python benchmarks/faults/fuzz.py --only tables:17 --keep SCRATCH       # one case, to look at
    python benchmarks/faults/fuzz.py --smoke                               # a few, in seconds

Inputs are made from valid ones by a seeded generator: a case is known by its seed, kind and number.
Most calls are forks of this process, which has loaded the programs, in folders of their own; one in
FRESH is a new interpreter. A fault is: a traceback; another exit status than 0 or 2 (or 1, for a
loss that is not finite); a signal; more than 60 s of the CPU, or of waiting; with status 2 anything
but one sentence on standard error; warnings of libraries; a pickle that was opened; anything
written outside of the call's folder.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch

from benchmarks.faults import running, samples
from benchmarks.faults.cases import KINDS
from benchmarks.faults.running import Case, Outcome

LIMIT = 60.0  # seconds of the CPU, or of waiting
FRESH = 20  # of so many cases one is called as people call it
SMOKE = 15  # cases, one of each kind
# Kinds that bring settings, of which each that is wrong is told.
MANY_SENTENCES = ("settings", "command lines", "run folders", "checkpoints")
PROGRESS = re.compile(r".*(\d+%\||\d+(it|file|image|B|unit) ?\[|\[\d\d:\d\d).*")
# What a sentence never has: the names of Python's own errors for what nobody foresaw.
UNFORESEEN = re.compile(r"(Assertion|Attribute|Name|UnboundLocal|Recursion|Index)Error")
OF_LIBRARIES = re.compile(r"\w+Warning: ")


class Judged(NamedTuple):
    number: int
    case: Case
    outcome: Outcome
    faults: list[str]


def sentences(case: Case, outcome: Outcome) -> list[str]:
    """What was said on standard error, without progress and usage."""
    lines = re.split(r"[\r\n]+", outcome.said)
    said = [line for line in lines if line.strip() and not PROGRESS.match(line)]
    usage = [place for place, line in enumerate(said) if line.startswith("usage:")]
    if usage:  # argparse's, wrapped with spaces in front
        said = [line for line in said[usage[0] + 1 :] if not line.startswith(" ")]
    return said


def faults(case: Case, outcome: Outcome, leftovers: list[str]) -> list[str]:
    """What is wrong with how a call ended; nothing where all is well."""
    found = [f"touched: {note}" for note in (*outcome.touched, *leftovers)]
    if "Traceback (most recent call last)" in outcome.said + outcome.output:
        found.append("a traceback")
    said = sentences(case, outcome)
    if outcome.status is None:
        found.append("no end")
    elif outcome.status == 1 and any("stopped: " in line for line in said):
        pass
    elif outcome.status not in (0, 2):
        found.append(f"status {outcome.status}")
    if outcome.status == 2:
        program = "main.py" if case.program == "main" else case.program.removeprefix("programs.")
        errors = [
            line for line in said if re.match(rf"(python -m programs\.)?{program}: error: ", line)
        ]
        if not errors or (len(errors) > 1 and case.kind not in MANY_SENTENCES):
            found.append(f"{len(errors)} sentences")
        # The other programs say on standard error what they do, because results have the other.
        if case.program in ("main", "programs.prepare") and len(said) > len(errors):
            found.append("more than sentences")
        if any(UNFORESEEN.search(line) for line in errors):
            found.append("a sentence with an error of Python")
        if not all(line.isprintable() for line in errors):
            found.append("a sentence with control characters")
    if any(OF_LIBRARIES.search(line) for line in said):
        found.append("a warning of a library")
    return found


def judged(kind: str, number: int, seed: int, made: samples.Samples, limit: float) -> Judged:
    """One case, made, run and judged; its folder is left for the caller."""
    folder = case_folder(made, kind, number)
    folder.mkdir()
    case = KINDS[kind](Random(f"{seed} {kind} {number}"), made, folder)
    before = running.snapshot(made.root, without=folder)
    run = running.started_anew if number % FRESH == FRESH - 1 else running.forked
    outcome = run(case, folder, limit)
    after = running.snapshot(made.root, without=folder)
    changed = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    return Judged(number, case, outcome, faults(case, outcome, changed))


def case_folder(made: samples.Samples, kind: str, number: int) -> Path:
    return made.root / f"{kind.replace(' ', '_')}_{number}"


def told(found: Judged) -> str:
    case, outcome = found.case, found.outcome
    said = sentences(case, outcome)
    last = said[-1] if said else ""
    words = " ".join(case.arguments[-6:])
    return (
        f"FAULT {case.kind}:{found.number} [{', '.join(found.faults)}] status {outcome.status}, "
        f"{outcome.seconds:.1f} s\n  {case.mutation}\n  {case.program} ... "
        f"{words!a:.400}\n  {last[:300]}"
    )


def table(results: list[Judged]) -> str:
    """A row for each kind."""
    rows = [
        "| kind | cases | results | sentences | faults | slowest, CPU s |",
        "|---|---|---|---|---|---|",
    ]
    by_kind = defaultdict(list)
    for result in results:
        by_kind[result.case.kind].append(result)
        by_kind["all"].append(result)
    for kind in (*KINDS, "all"):
        of_kind = by_kind.get(kind, [])
        well = [result for result in of_kind if not result.faults]
        ended = Counter(result.outcome.status for result in well)
        slowest = max((result.outcome.seconds for result in of_kind), default=0)
        rows.append(
            f"| {kind} | {len(of_kind)} | {ended[0]} | {ended[2] + ended[1]} "
            f"| {len(of_kind) - len(well)} | {slowest:.1f} |"
        )
    return "\n".join(rows)


def parsed_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=300, help="cases of all kinds together (300)")
    parser.add_argument("--seed", type=int, default=0, help="of the generator (0)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="only these")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="only this case")
    parser.add_argument(
        "--limit",
        type=float,
        default=LIMIT,
        help="seconds of the CPU that a call may take, or of the clock where it only waits (60)",
    )
    parser.add_argument("--folder", help="where all is made; by default the temporary folder")
    parser.add_argument(
        "--keep", metavar="DIR", type=Path, help="where folders of faults are moved"
    )
    parser.add_argument("--sentences", action="store_true", help="print what each call said")
    parser.add_argument("--smoke", action="store_true", help="one case of each kind")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[tuple[str, int]]:
    """Kind and number of each case."""
    if options.only:
        kind, _, number = options.only.partition(":")
        return [(kind, int(number))]
    count = SMOKE if options.smoke else options.count
    kinds = options.kinds
    return [(kinds[place % len(kinds)], place // len(kinds)) for place in range(count)]


def main() -> int:
    """Exit status: 0 no fault, 1 some."""
    options = parsed_options()
    torch.set_num_threads(1)
    running.load_programs()
    results = []
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        made = samples.make(Path(scratch), pseudolabels=not options.smoke)
        started = time.monotonic()
        for kind, number in chosen(options):
            result = judged(kind, number, options.seed, made, options.limit)
            results.append(result)
            if result.faults:
                print(told(result), flush=True)
            elif options.sentences:
                said = " ".join(sentences(result.case, result.outcome))
                print(f"{kind}:{number} {result.case.mutation} -> {said[:400]}", flush=True)
            folder = case_folder(made, kind, number)
            if options.keep and (result.faults or options.only):
                shutil.rmtree(options.keep / folder.name, ignore_errors=True)
                os.rename(folder, options.keep / folder.name)
            shutil.rmtree(folder, ignore_errors=True)
        seconds = time.monotonic() - started
    print(f"\nSeed {options.seed}, {len(results)} cases in {seconds:.0f} s:\n\n{table(results)}")
    return int(any(result.faults for result in results))


if __name__ == "__main__":
    sys.exit(main())
