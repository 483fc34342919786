#!/usr/bin/env bash
# Wheels of what a GPU machine without a package index lacks, of the versions in requirements.lock.
#
#     benchmarks/wheels.sh [FOLDER] [PYTHON VERSION]    # benchmarks/carried 3.12
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/carried} version=${2:-3.12}
names="pydantic pydantic_core annotated-types typing-inspection typing_extensions himalaya"
wanted=$(for name in $names; do grep -i "^$name==" "$here/../requirements.lock"; done)
platforms=$(for n in 2_28 2_27 2_24 2_17; do echo "--platform manylinux_${n}_x86_64"; done)
mkdir -p "$folder"
rm -f "$folder"/*.whl
# himalaya is published as source alone
"${PYTHON:-python3}" -m pip download -q --no-deps --only-binary=:all: --python-version "$version" --implementation cp \
    $platforms --platform manylinux2014_x86_64 -d "$folder" $(echo "$wanted" | grep -v himalaya)
"${PYTHON:-python3}" -m pip wheel -q --no-deps -w "$folder" $(echo "$wanted" | grep himalaya)
ls -l "$folder"
