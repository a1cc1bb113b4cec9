"""requirements.sh on machines made of stubs.

Each test has its own PATH, Python and pip; nothing is installed.
"""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BASH = shutil.which("bash")
TOOLS = [
    *("bash", "cat", "cksum", "cp", "dirname", "find", "flock"),
    *("grep", "mkdir", "rm", "sed", "sleep", "tail", "true"),
]

# An interpreter that answers as one of the given version would, copies itself into the environments
# that it makes, and writes down what its pip is asked for. Programs (-c) run in the real
# interpreter, which sees only fake packages.
PYTHON = r"""#!{bash}
case "$*" in
    -V) echo "Python {version}" ;;
    "-m venv --without-pip "*)
        [[ -z ${{NO_VENV:-}} ]] || {{ echo "$0: No module named venv"; exit 1; }}
        mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    "-m ensurepip"*)
        [[ -z ${{NO_ENSUREPIP:-}} ]] || {{ echo "$0: No module named ensurepip"; exit 1; }} ;;
    "-m pip --version") ;;
    "-m pip show"*) [[ " ${{INSTALLED:-}} " == *" ${{!#}} "* ]] ;;
    "-m pip uninstall"*) echo "uninstall ${{*:5}}" >>"$PIP_ASKED" ;;
    "-m pip install"*)
        echo "install" >>"$PIP_ASKED"
        cat "${{!#}}" >>"$PIP_ASKED"
        sleep "${{PIP_SECONDS:-0}}"
        [[ -z ${{PIP_FAILS:-}} ]] || {{ printf '%s\n' "$PIP_FAILS"; exit 1; }} ;;
    "-m compileall "*) echo "${{!#}}" >>"$PIP_ASKED.compiled"; exit 1 ;;
    "-c "*) PYTHONPATH=${{PACKAGES:-}} exec {real} -S "$@" ;;
    *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""

pytestmark = pytest.mark.skipif(BASH is None, reason="requirements.sh needs bash")


class Machine:
    """A copy of the two files, and a PATH that holds a few tools and the stubs of a test."""

    def __init__(self, folder):
        self.folder, self.repo, self.bin = folder, folder / "the repo", folder / "bin"
        self.venv = self.repo / ".venv"
        self.asked = folder / "pip_asked"
        self.repo.mkdir()
        self.bin.mkdir()
        for name in ("requirements.sh", "requirements.txt"):
            shutil.copy(ROOT / name, self.repo)
        for tool in TOOLS:
            if where := shutil.which(tool):
                (self.bin / tool).symlink_to(where)
        self.stub("uname", f"#!{BASH}\necho x86_64\n")

    def stub(self, name, text):
        path = self.bin / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def python(self, name="python3", version="3.12.1"):
        return self.stub(name, PYTHON.format(bash=BASH, version=version, real=sys.executable))

    def gpu(self, answer="GPU 0: NVIDIA H200 (UUID: GPU-1)"):
        return self.stub("nvidia-smi", f"#!{BASH}\necho '{answer}'\n")

    def package(self, name, version, code=""):
        packages = self.folder / "packages"
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").write_text(code)
        (packages / f"{name}-{version}.dist-info").mkdir()
        (packages / f"{name}-{version}.dist-info" / "METADATA").write_text(
            f"Name: {name}\nVersion: {version}\n"
        )
        return str(packages)

    def active(self, name="active", version="3.12.1"):
        return str(self.python(f"../{name}/bin/python", version).resolve().parents[1])

    def start(self, *command, **environment):
        environment = {
            "PATH": str(self.bin),
            "PIP_ASKED": str(self.asked),
            "HOME": str(self.folder),
            **environment,
        }
        return subprocess.Popen(
            [BASH, self.repo / "requirements.sh", *command],
            env=environment,
            cwd=self.folder,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *command, stdin="", **environment):
        process = self.start(*command, **environment)
        process.out, process.err = process.communicate(stdin, timeout=60)
        return process

    def installs(self):
        """The requirement lines of every pip install so far."""
        text = self.asked.read_text() if self.asked.exists() else ""
        return [part.split("\n") for part in text.split("install\n")[1:]]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def assert_refused(process, *words):
    """One sentence of ours, no traceback, no success."""
    assert process.returncode == 1
    assert "Traceback" not in process.err
    assert process.err.count("requirements.sh: ") == 1
    assert ": line " not in process.err, f"bash complained: {process.err}"
    for word in words:
        assert word in process.err


def test_makes_a_venv_once_and_runs_the_command_in_it(machine):
    machine.python()
    first = machine.run("bash", "-c", 'echo "$VIRTUAL_ENV"; python -V')
    assert (first.returncode, first.out) == (0, f"{machine.venv}\nPython 3.12.1\n")
    assert "Installing" in first.err
    again = machine.run("python", "-V")
    assert (again.returncode, again.out, again.err) == (0, "Python 3.12.1\n", "")
    assert len(machine.installs()) == 1


def test_asks_pip_for_the_file_as_it_is(machine):
    machine.python()
    machine.run("true")
    assert machine.installs() == [(machine.repo / "requirements.txt").read_text().split("\n")]


def test_what_was_installed_is_compiled_once_whatever_cannot_be(machine):
    """By a call that ends with 1, as for templates that are no Python."""
    machine.python()
    assert [machine.run("true").returncode for _ in range(2)] == [0, 0]
    compiled = machine.asked.with_name("pip_asked.compiled").read_text().splitlines()
    assert [Path(folder).name for folder in compiled] == ["site-packages"]


def test_says_how_to_use_it_without_a_command(machine):
    machine.python()
    process = machine.run()
    assert process.returncode == 0
    assert "bash requirements.sh COMMAND" in process.err
    assert len(machine.installs()) == 1


@pytest.mark.parametrize("changed", ["requirements.txt", "requirements.sh"])
def test_a_changed_file_calls_pip_again(machine, changed):
    machine.python()
    machine.run("true")
    with open(machine.repo / changed, "a") as file:
        file.write("\n# another line\n")
    for _ in range(2):
        assert machine.run("true").returncode == 0
    assert len(machine.installs()) == 2


def test_another_interpreter_in_the_environment_calls_pip_again(machine):
    active = machine.active(version="3.12.1")
    machine.run("true", VIRTUAL_ENV=active)
    machine.active(version="3.13.0")
    machine.run("true", VIRTUAL_ENV=active)
    assert len(machine.installs()) == 2


def test_the_command_gets_its_arguments_input_and_folder_and_gives_its_status(machine):
    machine.python()
    process = machine.run(
        "bash",
        "-c",
        'printf "<%s>" "$@"; cat; echo "$PWD"; exit 7',
        "x",
        "a b",
        "",
        "*",
        "--help",
        stdin="typed\n",
    )
    assert process.returncode == 7
    assert process.out == f"<a b><><*><--help>typed\n{machine.folder}\n"


def test_the_command_gets_the_signals(machine):
    machine.python()
    code = """if True:
        import os, signal, sys, time
        signal.signal(signal.SIGINT, lambda *_: sys.exit(5))
        print(os.getpid(), flush=True)
        while True:
            time.sleep(0.01)"""
    process = machine.start(sys.executable, "-c", code)
    assert int(process.stdout.readline()) == process.pid  # the command took the script's place
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 5


@pytest.mark.parametrize(
    "answer, wanted, other",
    [
        (None, "faiss-cpu", "faiss-gpu"),
        (
            "NVIDIA-SMI has failed because it could not talk to the driver.",
            "faiss-cpu",
            "faiss-gpu",
        ),
        ("GPU 0: NVIDIA H200 (UUID: GPU-1)", "faiss-gpu", "faiss-cpu"),
    ],
)
def test_the_gpu_chooses_faiss(machine, answer, wanted, other):
    machine.python()
    if answer:
        machine.gpu(answer)
    machine.run("true")
    (lines,) = machine.installs()
    assert any(line.startswith(f"{wanted}==") for line in lines)
    assert not any(line.startswith(f"{other}==") for line in lines)


def test_a_new_gpu_takes_the_other_faiss_out_first(machine):
    machine.python()
    machine.run("true")
    machine.gpu()
    machine.run("true", INSTALLED="faiss-cpu torch")
    asked = machine.asked.read_text()
    assert (
        asked.index("faiss-cpu==")
        < asked.index("uninstall faiss-cpu faiss-gpu")
        < asked.index("faiss-gpu==")
    )


def test_a_failed_install_says_why_and_is_tried_again(machine):
    machine.python()
    failed = machine.run(
        "true",
        PIP_FAILS="Collecting torch\nERROR: No matching distribution found for torch==2.15.0",
    )
    assert_refused(failed, "No matching distribution found for torch==2.15.0", "Python 3.12.1")
    assert not (machine.venv / "bin").exists()
    assert "Collecting torch" in (machine.venv / "requirements.log").read_text()
    assert machine.run("true").returncode == 0
    assert len(machine.installs()) == 2


def test_a_failed_update_leaves_the_environment_and_is_tried_again(machine):
    machine.python()
    machine.run("true")
    (machine.repo / "requirements.txt").write_text("numpy\n")
    assert_refused(machine.run("true", PIP_FAILS="ERROR: broken wheel"), "broken wheel")
    assert (machine.venv / "bin" / "python").exists()
    again = machine.run("true")
    assert again.returncode == 0 and "Making" not in again.err
    assert len(machine.installs()) == 3


@pytest.mark.parametrize(
    "said, advice",
    [
        (
            "WARNING: Retrying (Retry(total=0)) after a break\n"
            "ERROR: No matching distribution found",
            "the network",
        ),
        (
            "ERROR: Could not install packages due to an OSError: "
            "[Errno 28] No space left on device",
            "The disk is full",
        ),
        (
            "ERROR: Exception:\nTraceback (most recent call last):\n"
            "OSError: [Errno 122] Disk quota exceeded",
            "TMPDIR",
        ),
    ],
)
def test_known_failures_come_with_advice(machine, said, advice):
    machine.python()
    assert_refused(machine.run("true", PIP_FAILS=said), advice, said.split("\n")[-1])


@pytest.mark.parametrize("missing", ["NO_VENV", "NO_ENSUREPIP"])
def test_a_missing_venv_module_is_named_with_its_package(machine, missing):
    machine.python()
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    assert_refused(machine.run("true", **{missing: "1"}), f"apt install {package}", "PYTHON=")
    assert not (machine.venv / "bin").exists()
    assert machine.run("true").returncode == 0


def test_an_old_python_is_refused(machine):
    machine.python(version="3.9.18")
    assert_refused(machine.run("true"), "Python >= 3.10", "python3 is Python 3.9.18", "PYTHON=")
    assert not machine.venv.exists()


def test_a_missing_python_is_refused(machine):
    assert_refused(machine.run("true"), "Python >= 3.10", "python3 is missing")
    assert not machine.venv.exists()


def test_a_newer_python_is_found_beside_an_old_one(machine):
    machine.python(version="3.9.18")
    machine.python("python3.10", version="3.10.13")
    machine.python("python3.13", version="3.13.0")
    assert machine.run("python", "-V").out == "Python 3.13.0\n"


def test_the_variable_python_chooses(machine):
    machine.python(version="3.12.1")
    other = machine.python("../elsewhere/python", version="3.11.7")
    assert machine.run("python", "-V", PYTHON=str(other)).out == "Python 3.11.7\n"


def test_the_variable_python_is_not_passed_over(machine):
    machine.python(version="3.12.1")
    other = machine.python("../elsewhere/python", version="3.9.18")
    assert_refused(machine.run("true", PYTHON=str(other)), f"{other} is Python 3.9.18")


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_the_active_environment_is_used(machine, variable):
    active = machine.active(version="3.11.7")
    process = machine.run("python", "-V", **{variable: active})
    assert (process.returncode, process.out) == (0, "Python 3.11.7\n")
    assert not machine.venv.exists()
    assert machine.run("python", "-V", **{variable: active}).err == ""


def test_a_virtual_environment_goes_before_conda(machine):
    environments = {
        "VIRTUAL_ENV": machine.active("venv", "3.11.7"),
        "CONDA_PREFIX": machine.active("conda", "3.12.1"),
    }
    assert machine.run("python", "-V", **environments).out == "Python 3.11.7\n"


def test_an_active_environment_of_an_old_python_is_refused(machine):
    machine.python()
    assert_refused(
        machine.run("true", VIRTUAL_ENV=machine.active(version="3.9.18")), "has no Python >= 3.10"
    )
    assert_refused(machine.run("true", VIRTUAL_ENV=str(machine.folder / "gone")), "deactivate")
    assert not machine.installs()


@pytest.mark.parametrize(
    "torch, kept",
    [
        ("2.10.2", False),
        ("2.11.0+cu130", True),
        ("2.13.1+cpu", True),
        ("2.15.2", True),
        ("2.16.0", False),
        ("3.11.0", False),
    ],
)
def test_a_torch_in_the_tested_range_stays(machine, torch, kept):
    machine.package("torch", torch)
    packages = machine.package("torchvision", "0.27.0+local", "import torch")
    pinned = [
        line
        for line in (machine.repo / "requirements.txt").read_text().split("\n")
        if line.startswith("torch")
    ]
    machine.run("true", VIRTUAL_ENV=machine.active(), PACKAGES=packages)
    (lines,) = machine.installs()
    asked = [line.split(";")[0] for line in lines if line.startswith("torch")]
    wanted = [f"torch=={torch}", f"torch=={torch}", "torchvision==0.27.0+local"]
    assert asked == (wanted if kept else [line.split(";")[0] for line in pinned])
    assert len([line for line in lines if "==" in line]) > len(
        asked
    )  # the other pins apply all the same


@pytest.mark.parametrize(
    "code", [None, "raise RuntimeError('operator torchvision::nms does not exist')"]
)
def test_a_torch_without_a_working_torchvision_does_not_stay(machine, code):
    packages = machine.package("torch", "2.13.0+cpu")
    if code:
        machine.package("torchvision", "0.28.0", code)
    assert "Keeping" not in machine.run("true", VIRTUAL_ENV=machine.active(), PACKAGES=packages).err
    assert "torch==2.13.0" not in machine.asked.read_text()


def test_an_unfinished_venv_is_made_anew(machine):
    machine.python()
    machine.run("true", PIP_FAILS="ERROR: never mind")
    shutil.copytree(
        machine.bin, machine.venv / "bin", symlinks=True
    )  # as if killed before it could clear up
    (machine.venv / "bin" / "python3").rename(machine.venv / "bin" / "python")
    (machine.venv / "left_over").touch()
    assert "Making" in machine.run("true").err
    assert not (machine.venv / "left_over").exists()


def test_a_moved_venv_is_made_anew(machine):
    machine.python()
    machine.run("true")
    machine.repo.rename(machine.folder / "moved")
    machine.repo = machine.folder / "moved"
    process = machine.run("bash", "-c", 'echo "$VIRTUAL_ENV"')
    assert "Making" in process.err
    assert process.out == f"{machine.folder / 'moved' / '.venv'}\n"


def test_a_venv_of_the_users_own_is_not_cleared(machine):
    machine.python("../the repo/.venv/bin/python")
    (machine.venv / "precious").touch()
    assert machine.run("true").returncode == 0
    assert (machine.venv / "precious").exists()


@pytest.mark.skipif(
    shutil.which("flock") is None, reason="installs are one at a time only where there is flock"
)
def test_two_calls_at_once_install_once(machine):
    machine.python()
    both = [machine.start("python", "-V", PIP_SECONDS="0.3") for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == ["Python 3.12.1\n"] * 2
    assert len(machine.installs()) == 1


def test_the_lock_does_not_outlive_the_install(machine):
    machine.python()
    training = machine.start(
        "bash", "-c", "echo started; read -r"
    )  # goes on while another call installs
    assert training.stdout.readline() == "started\n"
    with open(machine.repo / "requirements.txt", "a") as file:
        file.write("# changed\n")
    begin = time.monotonic()
    assert "Waiting" not in machine.run("true").err and time.monotonic() - begin < 30
    training.communicate("\n", timeout=60)


def test_the_versions_are_pinned_for_either_python():
    lines = [
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert all("==" in line.split(";")[0] for line in lines)
    names = [line.split("==")[0] for line in lines]
    for name in set(names):
        markers = sorted(line.partition("; ")[2] for line in lines if line.split("==")[0] == name)
        assert markers in ([""], ['python_version < "3.11"', 'python_version >= "3.11"']), name
    assert names.count("faiss-cpu") == 1  # the line that requirements.sh turns into faiss-gpu
