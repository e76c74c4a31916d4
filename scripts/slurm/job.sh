# Read by the sbatch files: starts the run on every node of the allocation, then looks how it ended.
#
# The scheduler signals the step (torchrun), not this shell: all processes save and leave, and there is time left to say requeue.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$PWD}"
ACTIVATE=${ACTIVATE:-.venv/bin/activate}
# shellcheck disable=SC1090
if [ -f "$ACTIVATE" ]; then . "$ACTIVATE"; fi

RUN=$(bash scripts/launch/run_folder.sh "$@")
rm -f "$RUN/EXIT.json" # of an earlier attempt

mapfile -t HOSTS < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export HEAD=${HOSTS[0]} JOB=$SLURM_JOB_ID NODES=${SLURM_NNODES:-1} GPUS=${SLURM_GPUS_ON_NODE:-${GPUS:-8}}
export PORT=$((20000 + SLURM_JOB_ID % 10000)) # two jobs may share a node

# The number of a node is known only to its task. What srun returns is not asked: see verdict.py.
# shellcheck disable=SC2016
srun --kill-on-bad-exit=1 bash -c 'NODE_RANK=${SLURM_NODEID:-0} exec bash scripts/launch/node.sh "$@"' node "$@" || true

python scripts/launch/verdict.py "$RUN" --strikes "${STRIKES:-5}" && exit 0 || code=$?
if [ "$code" = 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
exit "$code"
