#!/usr/bin/env bash
# One node's share of a training run: torchrun, with what a run of many days needs of it.
#
#   scripts/launch/node.sh experiment=NAME name=RUN [KEY=VALUE ...]
#
# Read from the environment, all optional:
#   GPUS          processes on this node; else the number of GPUs that nvidia-smi lists, else 1
#   NODES         number of nodes (1); with more of them also
#   HEAD, PORT    host name and port (29500) of the first one
#   NODE_RANK     number of this one, 0 being the first
#   JOB           name of the rendezvous, the same on all nodes
#   MAX_RESTARTS  how often a died process makes this node start its processes again, in place (3)
#   TRAIN         the script that is started (scripts/train.py)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# A cluster may already have said all this in torchrun's own words (Kubeflow's runtime "torch-distributed" does).
NODES=${NODES:-${PET_NNODES:-1}}
HEAD=${HEAD:-${PET_MASTER_ADDR:-}}
PORT=${PORT:-${PET_MASTER_PORT:-29500}}
NODE_RANK=${NODE_RANK:-${PET_NODE_RANK:-0}}
GPUS=${GPUS:-${PET_NPROC_PER_NODE:-$(nvidia-smi --list-gpus 2>/dev/null | wc -l || true)}}
JOB=${JOB:-animeflow}
unset PET_NNODES PET_MASTER_ADDR PET_MASTER_PORT PET_NODE_RANK PET_NPROC_PER_NODE
[ "$GPUS" = 0 ] && GPUS=1

# Without this a restarted process meets the keys of the attempt that died in the store, and hangs (pytorch #135712).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
# torchrun passes SIGTERM on and kills after 30 s, too soon for a large checkpoint; of SIGUSR1 it dies without passing it on.
# These are its options in the environment, so that a torchrun that lacks one of them starts all the same.
export PET_SHUTDOWN_TIMEOUT=${PET_SHUTDOWN_TIMEOUT:-540}
export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGUSR1
# NCCL's flight recorder: when a collective times out, each process says what it was waiting in. Both of torch's names for it.
export TORCH_NCCL_DUMP_ON_TIMEOUT=1 TORCH_FR_BUFFER_SIZE=20000 TORCH_NCCL_TRACE_BUFFER_SIZE=20000
RUN=$(bash scripts/launch/run_folder.sh "$@")
case $RUN in /*) ;; *) RUN=$PWD/$RUN ;; esac
mkdir -p "$RUN/nccl"
export TORCH_FR_DUMP_TEMP_FILE=$RUN/nccl/rank- TORCH_NCCL_DEBUG_INFO_TEMP_FILE=$RUN/nccl/rank-
# Compiled kernels of a job of its own: a process that was killed while it wrote them must not spoil those of another job.
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/inductor-$JOB}

if [ "$NODES" = 1 ]; then
  where=(--standalone)
else
  first=$([ "$NODE_RANK" = 0 ] && echo true || echo false)
  where=(--nnodes "$NODES" --rdzv-backend c10d --rdzv-endpoint "${HEAD:?the first node is not named}:$PORT" --rdzv-id "$JOB"
    --rdzv-conf "is_host=$first,join_timeout=900")
fi
# In place of this shell, so that a signal from outside reaches torchrun, once.
exec torchrun "${where[@]}" --nproc-per-node "$GPUS" --max-restarts "${MAX_RESTARTS:-3}" "${TRAIN:-scripts/train.py}" "$@"
