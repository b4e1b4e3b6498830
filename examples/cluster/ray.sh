#!/bin/bash
# A study on a Ray cluster that runs: examples/cluster/ray.sh STUDY [ADDRESS]
# Every node needs pyrite[ray] and sees the store under the same path.
set -euo pipefail
: "${PYRITE_STORE:?name a folder that every node sees}"
exec pyrite study "${1:?name a study file}" --engine "ray:${2:-auto}" --out "${PYRITE_OUT:-runs}"
