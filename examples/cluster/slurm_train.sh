#!/bin/bash
# A repair on several nodes: sbatch examples/cluster/slurm_train.sh MODEL FORGET REPLAY
# One torchrun a node starts one process a GPU; they share the model. All nodes must see model, rows and store under one path.
#SBATCH --job-name=pyrite-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=08:00:00
#SBATCH --requeue
# --max-time (minutes) ends before --time: a checkpoint is saved, and the same sbatch goes on from there.
set -euo pipefail
: "${PYRITE_STORE:?name a folder that every node sees}"
export HEAD="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
export OMP_NUM_THREADS="$((SLURM_CPUS_PER_TASK / SLURM_GPUS_PER_NODE))"
exec srun torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$SLURM_GPUS_PER_NODE" \
  --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$HEAD:29500" \
  -m pyrite repair "${1:?name a model}" --forget "${2:?name rows to forget}" --replay "${3:?name rows to replay}" \
  --store "$PYRITE_STORE" --out "${PYRITE_OUT:-runs/repair}" --device-map auto --max-time 470
