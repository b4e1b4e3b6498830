#!/bin/bash
# A study as a Slurm job array: sbatch examples/cluster/slurm.sh STUDY
# Every job runs the same command on the same store, which all nodes must see; the last one writes the results.
#SBATCH --job-name=pyrite
#SBATCH --array=1-4
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=08:00:00
#SBATCH --signal=INT@120
# GPUs: add --gres=gpu:1
set -euo pipefail
: "${PYRITE_STORE:?name a folder that every node sees}"
exec pyrite study "${1:?name a study file}" --shard slurm --workers 1 --out "${PYRITE_OUT:-runs}"
