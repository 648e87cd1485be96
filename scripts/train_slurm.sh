#!/usr/bin/env bash
# Trains on several machines under Slurm, one process a GPU; a run that its time does not suffice for goes on in the
# next job by itself:
#
#     sbatch scripts/train_slurm.sh config.toml
#
# Adapt the numbers. Written from the manuals of Slurm and Lightning and tried with a stand-in for srun: there was no
# Slurm to run it under.
#SBATCH --job-name=train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
set -uo pipefail
config=${1:?usage: sbatch scripts/train_slurm.sh config.toml}

# Five minutes before the end the processes get SIGTERM, write a checkpoint and end with status 3.
srun --kill-on-bad-exit=1 ase-equivariant train "$config" \
    --set run.device="${DEVICE:-cuda}" \
    --set run.devices="$SLURM_NTASKS_PER_NODE" \
    --set run.num_nodes="$SLURM_NNODES"
status=$?
if [ $status = 3 ]; then
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit $status
