#!/usr/bin/env bash
# Makes this repository's environment and runs a command in it, in the current directory:
#
#     bash requirements.sh python main.py --help
#
# The environment is the active virtual or conda environment, else .venv beside this file, made with $PYTHON or the
# first Python >= 3.10 on the PATH. It gets the versions of requirements.txt, with faiss-gpu where there is a GPU; the
# torch of an active environment stays if it is in the tested range and its torchvision works. Later calls only run the
# command, until one of these two files, the interpreter or the choice of faiss changes.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }
die() { say "requirements.sh: $*"; exit 1; }

new_enough() { [[ $("$1" -V 2>&1) =~ ^Python\ 3\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 10)); }
has_gpu() { [[ $(nvidia-smi -L 2>/dev/null) == *"GPU "[0-9]* && $(uname -m) == x86_64 ]]; }  # no faiss-gpu for others
state() { echo "$(cat "$repo"/requirements.{txt,sh} | cksum) $faiss $("$python" -V 2>&1) $env"; }
is_current() { [[ -e $stamp && $(<"$stamp") == "$(state)" ]]; }

# A .venv is made anew if its first install never ended, or if it was moved here: its scripts name its old place.
is_usable() { new_enough "$python" && [[ -n $active || ! -e $stamp || $(<"$stamp") == *" $env" ]]; }

# Prints the interpreter to start from: the environment's own, else one to make .venv with.
base_python() {
    if is_usable; then echo "$python"; return; fi
    [[ -z $active ]] || die "The active $env has no Python >= 3.10: activate another environment, or none."
    if [[ -n ${PYTHON:-} ]]; then set -- "$PYTHON"; else set -- python3 python3.{14,13,12,11,10}; fi
    local candidate found
    for candidate; do new_enough "$candidate" && { echo "$candidate"; return; }; done
    found=$("$1" -V 2>&1) || found=missing
    die "Python >= 3.10 is needed, but $1 is $found: install one, or name one with PYTHON=/path/to/python3.12."
}

# Empties .venv, except for the stamp, the log and the lock that this process holds.
clear_venv() { find "$env" -mindepth 1 -maxdepth 1 ! -name 'requirements.*' -exec rm -rf {} +; }

# Ends with what failed ($1), what to do about it, and the program's own reason out of its output ($2).
fail() {
    local hint="" reason
    case $2 in
        *"No space left"* | *"quota exceeded"*)
            hint="The disk is full: it takes up to 8 GB there, and 4 GB in ${TMPDIR:-/tmp} (or another TMPDIR)." ;;
        *"No module named venv"* | *"No module named ensurepip"*)
            hint=$("$base" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
            hint="Its venv module is missing: apt install $hint, or name another with PYTHON=/path/to/python3." ;;
        *"Retrying ("*) hint="No package registry answers: check the network, the proxy and \`pip config list\`." ;;
        *"No matching distribution"*) hint="Your package registry lacks it for $("$python" -V): try another Python." ;;
    esac
    reason=$(grep -E '^(ERROR: .*[^:]|[A-Za-z_.]*Error: .*)$' <<<"$2" | tail -n 1) || reason=${2##*$'\n'}
    [[ $base == "$python" ]] || clear_venv  # half a .venv is of no use
    { printf '%s\n' "$2" >"$log"; } 2>/dev/null || true  # not on a full disk
    die "$1. ${hint:+$hint }[${reason:0:200}; more in $log]"
}

make_venv() {
    local output
    say "Making $env with $("$base" -V) ..."
    clear_venv
    # pip comes in a step of its own: venv would hide why that one failed.
    output=$({ echo unfinished >"$stamp" && "$base" -m venv --without-pip "$env" &&
        "$python" -m ensurepip --default-pip; } 2>&1) || fail "$base cannot make $env" "$output"
}

# Prints the versions of torch and torchvision if the two work together and torch is in the tested range.
kept_torch() {
    "$python" -c '
import torchvision  # raises if it was built for another torch
from importlib.metadata import version
torch = version("torch")
if (2, 11) <= tuple(map(int, torch.split(".")[:2])) <= (2, 15):
    print(torch, version("torchvision"))' 2>/dev/null || true
}

# Compiles what was installed, on all cores: pip would on one. Some packages hold templates that are no Python.
compile() {
    local folder
    folder=$("$python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
    "$python" -m compileall -qq -j 0 "$folder" &>/dev/null || true
}

install() {
    local output torch vision edits="s/^faiss-cpu==/$faiss==/" other=faiss-gpu
    if [[ $base == "$python" ]]; then rm -f "$stamp"; else make_venv; fi
    if ! "$python" -m pip --version >/dev/null 2>&1; then  # other tools make environments without
        output=$("$python" -m ensurepip --default-pip 2>&1) || fail "$env has no pip" "$output"
    fi
    if [[ -n $active ]] && read -r torch vision < <(kept_torch); then
        say "Keeping torch $torch and torchvision $vision."  # as pins of their own, so that nothing moves them
        edits+="; s/^torch==[^;]*/torch==$torch/; s/^torchvision==[^;]*/torchvision==$vision/"
    fi
    # Both kinds of faiss own the same folder, so the old one has to go before the new one comes.
    [[ $faiss == faiss-cpu ]] || other="faiss-cpu"
    { ! "$python" -m pip show -q "$other" || "$python" -m pip uninstall -y faiss-cpu faiss-gpu; } &>/dev/null
    say "Installing the requirements into $env (up to 8 GB, a few minutes) ..."
    output=$("$python" -m pip install --no-input --no-compile --progress-bar off \
        -r <(sed "$edits" "$repo/requirements.txt") 2>&1 </dev/null) ||
        fail "pip could not install the requirements into $env" "$output"
    compile
    printf '%s\n' "$output" >"$log"
    state >"$stamp"
}

repo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" >/dev/null && pwd -P)
active=${VIRTUAL_ENV:-${CONDA_PREFIX:-}}
env=$repo/.venv
[[ -z $active ]] || env=$(cd -- "$active" 2>/dev/null && pwd -P) || die "The active $active is gone: deactivate it."
python=$env/bin/python
stamp=$env/requirements.stamp  # what the last successful install was made from
log=$env/requirements.log      # what pip said
faiss=$(has_gpu && echo faiss-gpu || echo faiss-cpu)

if ! is_current; then
    base=$(base_python)
    { mkdir -p "$env" 2>/dev/null && [[ -w $env ]]; } || die "Cannot write to $env: activate an environment of yours."
    (   # one at a time, where there is flock
        if command -v flock >/dev/null && ! flock -n 9; then
            say "Waiting for another install into $env ..."
            flock 9 || true  # some network file systems cannot lock
        fi
        is_current || install
    ) 9>>"$env/requirements.lock"
fi

(($#)) || { say "$env is ready: bash requirements.sh COMMAND ... runs a command in it."; exit 0; }
export PATH=$env/bin:$PATH
[[ -n $active ]] || { export VIRTUAL_ENV=$env; unset PYTHONHOME; }
exec -- "$@"
