#!/usr/bin/env bash
# CPU and GPU side by side: agreement, training, speed, evaluation. 6 minutes on one GPU.
#
#     bash benchmarks/cuda/run.sh [FOLDER]          # leaves results.md and results.json there
#
# Runs in the active environment (or the interpreter $PYTHON). Without a network, $WHEELS names a folder of wheels of
# what it lacks; they are unpacked beside it, for this run only. $PARTS chooses among the four. Every part is run, and
# the status is 1 if any of them found something wrong.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
results=${1:-benchmarks/cuda/results}
mkdir -p "$results"
if [[ -n ${WHEELS:-} ]]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$WHEELS"/*.whl || exit
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
    echo "run.sh: $python finds no GPU that torch can use; each part takes --smoke, which needs none." >&2
    exit 2
}
status=0
for part in ${PARTS:-agreement training speed evaluation}; do
    SECONDS=0
    "$python" "benchmarks/cuda/$part.py" --results "$results" || status=1
    echo "$part: $SECONDS s, status so far $status" >&2
done
"$python" benchmarks/cuda/sheets.py "$results"
echo "Results: $results/results.md" >&2
exit "$status"
