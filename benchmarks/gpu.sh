#!/usr/bin/env bash
# Everything there is to measure on a GPU, in twelve minutes of it: the most valuable first, every part with a limit of
# its own, every row written as soon as it is there.
#
#     benchmarks/gpu.sh [--device cuda] [--out benchmarks/results] [--carried benchmarks/carried] [--seconds 690] \
#         [--parts "tuning features ridge precisions tests compiled others grid"]
#     benchmarks/gpu.sh --device cpu --small    # two minutes on a processor: everything runs, at sizes that mean nothing;
#                                             # results then in benchmarks/carried/small
#
# The machine needs Python with torch, transformers and what comes with them, and no package index: what it lacks is
# carried as wheels (benchmarks/wheels.sh), a study as numbers (benchmarks/pack.py). Results are at most eight files.
set -u
here=$(cd "$(dirname "$0")" && pwd)
device=cuda small= out= carried=$here/carried seconds=690 slack=1 stopped=
parts="tuning features ridge precisions tests compiled others grid"
while [ $# -gt 0 ]; do
    case $1 in
        --small) small=--small seconds=6900 slack=10 ;;
        --device) device=$2; shift ;;
        --out) out=$2; shift ;;
        --carried) carried=$2; shift ;;
        --seconds) seconds=$2; shift ;;
        --parts) parts=$2; shift ;;
        *) echo "gpu.sh: found $1, expected --device, --small, --out, --carried, --seconds or --parts" >&2; exit 2 ;;
    esac
    shift
done
python=${PYTHON:-python3}
end=$((SECONDS + seconds))
[ -n "$out" ] || out=$here/$([ -n "$small" ] && echo carried/small || echo results)
mkdir -p "$out"
out=$(cd "$out" && pwd)
log=$out/$device-log.txt
date >> "$log"

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if compgen -G "$carried/*.whl" > /dev/null; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" "$carried"/*.whl >> "$log" 2>&1 ||
        echo "gpu.sh: the wheels in $carried do not fit this Python, going on without them" | tee -a "$log"
fi
export PYTHONPATH=$here/../lib:$site${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1

if [ "$device" = cuda ] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "gpu.sh: $python finds no torch with a GPU, expected one for --device cuda" >&2
    exit 2
fi

# part NAME SECONDS COMMAND...: run within its limit and what is left of the whole; whatever comes of it, go on.
part() {
    local name=$1 limit=$(($2 * slack)) left=$((end - SECONDS)) started=$SECONDS
    shift 2
    [[ " $parts " == *" $name "* ]] || return
    [ "$limit" -lt "$left" ] || limit=$left
    if [ "$limit" -lt 10 ]; then
        echo "== $name: no time left" | tee -a "$log"
        return
    fi
    timeout --kill-after 5 "$limit" "$python" "$@" 2>&1 | tee -a "$log"
    local code=${PIPESTATUS[0]}
    [ "$code" -ne 124 ] && [ "$code" -ne 137 ] || code="stopped at its limit of $limit s" stopped=yes
    echo "== $name: $((SECONDS - started)) s, $code" | tee -a "$log"
}

speed=("$here/speed.py" --device "$device" --out "$out" $small --parts)
part tuning 110 "${speed[@]}" tuning
part features 90 "${speed[@]}" features
part ridge 100 "${speed[@]}" ridge
part precisions 120 "$here/precisions.py" --device "$device" --out "$out" $small
BRAINTUNING_GPU_TESTS=$device PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 part tests 110 -m pytest -o addopts= -p no:cacheprovider --noconftest -v -rs -m gpu "$here/../tests/gpu"
part compiled 110 "${speed[@]}" compiled
part others 120 "${speed[@]}" others
if [ -f "$carried/study.h5" ]; then
    part grid "$seconds" "$here/grid.py" --device "$device" --out "$out" --packed "$carried"
elif [[ " $parts " == *" grid "* ]]; then
    echo "== grid: no $carried/study.h5, see benchmarks/pack.py" | tee -a "$log"
fi
[ -z "$stopped" ] || "$python" "$here/measuring.py" "$out" "$device"  # else every part has written the report
