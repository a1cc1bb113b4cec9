"""In the place of main.py: says what it is told, writes what a run leaves, trains nothing.

--project says what becomes of it: `fail`, `die`, `empty`, `wait` for a signal; others end well.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def value_of(texts: list[str]) -> object:
    values = [json.loads(text) if text.isdecimal() else text for text in texts]
    return values[0] if len(values) == 1 else values or True


def read(words: list[str]) -> dict[str, object]:
    flags: dict[str, list[str]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if name.startswith("--"):
            flags[name.removeprefix("--")] = [text] if equals else []
        else:
            flags[list(flags)[-1]].append(word)
    return {name: value_of(texts) for name, texts in flags.items()}


def wait_for_a_signal(folder: Path) -> None:
    def stop(number: int, frame: object) -> None:
        time.sleep(0.3)
        with (folder / "checkpoint_last.pth.tar").open("a") as file:
            file.write("a checkpoint\n")
        print(f"main.py: stopped by {signal.Signals(number).name}", file=sys.stderr)
        sys.exit(143)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, stop)
    print(f"Epoch 1 of 4: process {os.getpid()}", flush=True)
    time.sleep(60)


def main() -> int:
    settings = read(sys.argv[1:])
    place = Path(str(settings["save_path"])) / str(settings["dataset"])
    folder = place / f"{settings['group']}_s{settings.get('seed', 0)}"
    print("OMP", os.environ["OMP_NUM_THREADS"], "GPU", os.environ.get("CUDA_VISIBLE_DEVICES"))
    folder.mkdir(parents=True, exist_ok=True)
    stored = {
        name: value for name, value in settings.items() if name not in ("completed", "resume")
    }
    (folder / "args.yaml").write_text(json.dumps(stored))
    is_resumed = (folder / "checkpoint_last.pth.tar").exists()
    what = settings.get("project")
    if what == "fail":
        print("main.py: error: nothing here works.", file=sys.stderr)
        return 2
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "wait" and not is_resumed:
        wait_for_a_signal(folder)
    if what != "empty":
        (folder / "results.json").write_text(json.dumps({"settings": stored, "metrics": {}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
