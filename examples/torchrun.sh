#!/bin/bash
# Trains on several machines. Run it on each of them, with the same arguments and the same folders:
#
#   ./torchrun.sh FIRST_HOST NUMBER_OF_MACHINES GPUS_PER_MACHINE
#
# FIRST_HOST is the name of one of the machines. If a process or a machine fails, torchrun starts all processes again,
# up to 10 times, and the run continues from its last checkpoint. The same command also continues it later.
set -eu
host=$1 machines=$2 gpus=$3

exec torchrun \
  --nnodes "$machines" --nproc-per-node "$gpus" \
  --rdzv-backend c10d --rdzv-endpoint "$host:29500" --rdzv-id train --max-restarts 10 \
  -m fastfcn train "${RECIPE:-fastfcn_r50_psp_cityscapes_80k_b8}" \
  --data "${DATA:-cityscapes}" --out "${OUT:-runs/cityscapes}" --resume
