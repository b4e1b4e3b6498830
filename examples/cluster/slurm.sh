#!/bin/bash
# A study as a Slurm job array: sbatch examples/cluster/slurm.sh STUDY
# Every job runs the same command on the same store, which all nodes must see; the last one writes the results.
#SBATCH --job-name=pyrite
#SBATCH --array=1-4
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=08:00:00
#SBATCH --requeue
# GPUs: add --gres=gpu:1
# --max-time (minutes) ends before --time: steps save their checkpoints, and the same sbatch goes on from there.
set -euo pipefail
: "${PYRITE_STORE:?name a folder that every node sees}"
exec pyrite study "${1:?name a study file}" --shard slurm --workers 1 --max-time 470 --out "${PYRITE_OUT:-runs}"
