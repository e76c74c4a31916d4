"""The files that start a run elsewhere: what accelerate makes of its own, what a job does when a run ends, and that every command
they hold is one. Clusters are played by small scripts on the PATH; torchrun is real where the test says so."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from animeflow.app.compose import compose

ROOT = Path(__file__).parents[2]
LAUNCHERS = sorted((ROOT / "configs" / "launcher").glob("*.yaml"))
SHELL = sorted([*(ROOT / "scripts").rglob("*.sh"), *(ROOT / "scripts").rglob("*.sbatch")])
PAGES = [
    *LAUNCHERS,
    *SHELL,
    *(ROOT / "scripts").rglob("*.yaml"),
    *(ROOT / "docs" / "launch").glob("*.md"),
    ROOT / "docs" / "running.md",
]


# -- accelerate's files ------------------------------------------------------------------------------------------------


def environment_of(name: str, *options: str) -> dict[str, str]:
    """What `accelerate launch` would tell the processes."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

    path = str(ROOT / "configs" / "launcher" / f"{name}.yaml")
    args = launch_command_parser().parse_args(["--config_file", path, "--main_process_port", "0", *options, "train.py"])
    args, _, _ = _validate_launch_command(args)
    if args.multi_gpu or args.use_fsdp:
        return prepare_multi_gpu_env(args) | {"processes": args.nproc_per_node}
    return prepare_simple_launcher_cmd_env(args)[1]


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_accelerate_accepts_the_file(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(path)).mixed_precision == "no", "train.precision decides, and nothing else"


def test_accelerate_says_what_sharding_auto_reads(monkeypatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_")):
            monkeypatch.delenv(name)
    assert environment_of("cpu")["ACCELERATE_USE_CPU"] == "True"
    assert environment_of("gpu")["ACCELERATE_USE_CPU"] == "False"
    ddp = environment_of("ddp")
    assert "ACCELERATE_USE_FSDP" not in ddp
    assert ddp["processes"] == "8"
    fsdp2 = environment_of("fsdp2", "--num_processes", "4")
    assert (fsdp2["ACCELERATE_USE_FSDP"], fsdp2["FSDP_VERSION"], fsdp2["processes"]) == ("true", "2", "4")
    assert "ACCELERATE_USE_PARALLELISM_CONFIG" not in fsdp2
    several = ("--machine_rank", "1", "--main_process_ip", "head", "--main_process_port", "29555")
    hsdp = environment_of("hsdp", *several)
    assert (hsdp["ACCELERATE_USE_FSDP"], hsdp["FSDP_VERSION"], hsdp["processes"]) == ("true", "2", "8")
    assert hsdp["ACCELERATE_USE_PARALLELISM_CONFIG"] == "true"
    sizes = [int(hsdp[f"PARALLELISM_CONFIG_DP_{part}_SIZE"]) for part in ("REPLICATE", "SHARD")]
    assert sizes == [2, 8]
    wider = environment_of(
        "hsdp", *several, "--num_machines", "4", "--num_processes", "32", "--parallelism_config_dp_replicate_size", "4"
    )
    assert wider["PARALLELISM_CONFIG_DP_REPLICATE_SIZE"] == "4"


# -- commands ----------------------------------------------------------------------------------------------------------

COMMAND = re.compile(
    r"(?:animeflow train|accelerate launch [^\n]*?scripts/train\.py|torchrun [^\n]*?scripts/train\.py"
    r"|sbatch [^\n]*?\.sbatch|scripts/launch/node\.sh)((?: +[\w.]+=[^\s\[\]`]+)+)"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_compose(page: Path) -> None:
    text = re.sub(r"\s*\\\n[# ]*", " ", page.read_text())
    for found in COMMAND.findall(text):
        compose(
            ["name=x" if word in ("name=RUN",) else word for word in shlex.split(found) if word != "experiment=NAME"]
        )


def test_the_pattern_for_commands_finds_some() -> None:
    assert sum(len(COMMAND.findall(re.sub(r"\s*\\\n[# ]*", " ", page.read_text()))) for page in PAGES) >= 12


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_shell_is_shell(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-s", "bash", "-x", str(path)], check=True, cwd=ROOT)


# -- a job of SLURM ----------------------------------------------------------------------------------------------------

SHIMS = {
    # Runs the command once per node, as one task each, and fails when one does.
    "srun": """
        while [[ ${1:-} == --* ]]; do shift; done
        for ((i = 0; i < SLURM_NNODES; i++)); do SLURM_NODEID=$i "$@" & pids="${pids:-} $!"; done
        code=0; for pid in $pids; do wait "$pid" || code=$?; done; exit $code
    """,
    "scontrol": """
        if [ "$1" = show ]; then printf 'node0\\nnode1\\n'; else echo "$@" >> "$CALLS/scontrol"; fi
    """,
    # Plays a run: ends as the first line of the plan says, and always with 1 but when it has finished, as torchrun does.
    "torchrun": """
        printf '%s\\n' "$*" >> "$CALLS/torchrun"
        env > "$CALLS/env"
        case "$*" in *is_host=false*) exit 1 ;; esac
        how=$(head -n 1 "$CALLS/plan"); sed -i 1d "$CALLS/plan"
        mkdir -p "$CALLS/../runs/neko"; cd "$CALLS/../runs/neko"
        case $how in
          checkpoint:*) mkdir -p "checkpoints/${how#*:}"; how=failed ;;
        esac
        case $how in
          killed) exit 137 ;;
          mistake) echo '{"reason": "failed", "exit_code": 2, "images": 0, "error": "ConfigError: no"}' > EXIT.json ;;
          *) echo "{\\"reason\\": \\"$how\\", \\"exit_code\\": 1, \\"images\\": 0}" > EXIT.json ;;
        esac
        [ "$how" = finished ]
    """,
}


class Cluster:
    """A checkout of the scripts, and a scheduler that starts a job again when it is asked to."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.calls = folder / "checkout", folder / "checkout" / "calls"
        shutil.copytree(ROOT / "scripts", self.checkout / "scripts")
        self.calls.mkdir()
        bin_ = folder / "bin"
        bin_.mkdir()
        for name, text in SHIMS.items():
            (bin_ / name).write_text("#!/usr/bin/env bash\n" + text)
            (bin_ / name).chmod(0o755)
        (bin_ / "python").symlink_to(sys.executable)
        self.environment = {
            "PATH": f"{bin_}:/usr/bin:/bin", "CALLS": str(self.calls), "ACTIVATE": "/dev/null", "TMPDIR": str(folder),
            "SLURM_SUBMIT_DIR": str(self.checkout), "SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "node[0-1]",
            "SLURM_GPUS_ON_NODE": "8", "SLURM_NNODES": "1",
        }  # fmt: skip

    def submit(
        self, *plan: str, file: str = "one_node", words: tuple[str, ...] = ("experiment=nekofantasia_0_1", "name=neko")
    ) -> int:
        """Run the job until it is not requeued any more; returns its last exit code."""
        (self.calls / "plan").write_text("".join(f"{line}\n" for line in plan))
        for attempt in range(30):
            # As SLURM does: a copy of the file, from somewhere else.
            spooled = self.checkout.parent / "slurm_script"
            shutil.copy(self.checkout / "scripts" / "slurm" / f"{file}.sbatch", spooled)
            done = subprocess.run(
                ["bash", str(spooled), *words],
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            self.said = done.stdout + done.stderr
            if len(self.lines("scontrol")) != attempt + 1:
                return done.returncode
        raise AssertionError("the job is requeued for ever")

    def lines(self, name: str) -> list[str]:
        path = self.calls / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def attempts(self) -> int:
        return len([line for line in self.lines("torchrun") if "is_host=false" not in line])


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.mark.parametrize(
    ("plan", "attempts", "code"),
    [
        (["finished"], 1, 0),
        (["preempted", "preempted", "finished"], 3, 0),
        (["failed"] * 9, 5, 1),
        (["killed"] * 9, 5, 1),
        (["killed", "preempted", "failed", "finished"], 4, 0),
        ([*["failed"] * 4, "checkpoint:800", *["failed"] * 3, "checkpoint:1600", "finished"], 10, 0),
        (["failed"] * 4 + ["preempted"] + ["failed"] * 4 + ["finished"], 10, 0),
        (["diverged", "finished"], 1, 1),
        (["mistake", "finished"], 1, 1),
    ],
    ids=[
        "finished",
        "preempted",
        "fails",
        "killed",
        "mixed",
        "fails but gets on",
        "strikes are in a row",
        "diverged",
        "mistake",
    ],
)
def test_a_job_is_requeued_until_it_is_finished_or_hopeless(
    cluster: Cluster, plan: list[str], attempts: int, code: int
) -> None:
    assert cluster.submit(*plan) == code, cluster.said
    assert cluster.attempts == attempts
    assert cluster.lines("scontrol") == ["requeue 4711"] * (attempts - 1)


def test_what_an_earlier_attempt_left_is_not_believed(cluster: Cluster) -> None:
    run = cluster.checkout / "runs" / "neko"
    run.mkdir(parents=True)
    (run / "EXIT.json").write_text('{"reason": "finished"}')
    assert cluster.submit("killed", "finished") == 0
    assert cluster.attempts == 2


def test_a_job_without_a_name_is_refused_before_it_starts(cluster: Cluster) -> None:
    assert cluster.submit("finished", words=("experiment=nekofantasia_0_1",)) == 2
    assert "say name=RUN" in cluster.said
    assert cluster.attempts == 0


def test_one_node_starts_one_torchrun_that_saves_in_time(cluster: Cluster) -> None:
    cluster.submit("finished")
    (line,) = cluster.lines("torchrun")
    assert (
        line
        == "--standalone --nproc-per-node 8 --max-restarts 3 scripts/train.py experiment=nekofantasia_0_1 name=neko"
    )
    told = dict(each.split("=", 1) for each in cluster.lines("env") if "=" in each)
    assert told["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"
    assert told["PET_SIGNALS_TO_HANDLE"] == "SIGTERM,SIGINT,SIGUSR1"
    assert told["TORCHINDUCTOR_CACHE_DIR"].endswith("inductor-4711")
    assert told["TORCH_FR_DUMP_TEMP_FILE"] == str(cluster.checkout / "runs" / "neko" / "nccl" / "rank-")
    options = dict(
        re.findall(
            r"^#SBATCH --([\w-]+)(?:=(\S+))?", (ROOT / "scripts/slurm/one_node.sbatch").read_text(), re.MULTILINE
        )
    )
    assert options["ntasks-per-node"] == "1"
    assert "requeue" in options
    assert options["open-mode"] == "append"
    name, _, seconds = options["signal"].partition("@")
    assert name == "TERM", "B: would signal this shell alone"
    assert int(seconds) > int(told["PET_SHUTDOWN_TIMEOUT"]), "torchrun would wait longer than the scheduler"


def test_many_nodes_meet_at_the_first(cluster: Cluster) -> None:
    cluster.environment["SLURM_NNODES"] = "2"
    assert cluster.submit("preempted", "finished", file="many_nodes") == 0
    for first in ("true", "false"):
        lines = [line for line in cluster.lines("torchrun") if f"is_host={first}" in line]
        assert len(lines) == 2
        assert all(
            "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint node0:24711 --rdzv-id 4711" in line for line in lines
        )


# -- with the real torchrun --------------------------------------------------------------------------------------------

# It leaves as scripts/train.py does, past Python's teardown, in which torch's threads sometimes abort a process. A node whose
# process failed so after all work is done waits for others that wait for it to end.
WORKER = """
import datetime, os, signal, time
from pathlib import Path
import torch
import torch.distributed as dist

rank, attempt = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
folder, stop = Path(os.environ["OUT"]), []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda *got: stop.append(got[0]))
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=120))
total = torch.tensor([1 << rank])
if os.environ.get("KILL") and rank == 1 and attempt < int(os.environ["KILL"]):
    os.kill(os.getpid(), signal.SIGKILL)
dist.all_reduce(total)
(folder / f"up-{rank}").write_text(f"{int(total)} {attempt}")
if not os.environ.get("KILL"):
    while not stop:
        time.sleep(0.05)
    time.sleep(1.0)  # saving
    (folder / f"saved-{rank}").write_text(signal.Signals(stop[0]).name)
os._exit(75 if stop else 0)
"""


def free_port() -> int:
    """One that no program is given by chance, so that it is free when torchrun asks for it, too."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def start_node(folder: Path, **environment: str) -> subprocess.Popen[str]:
    worker = folder / "worker.py"
    worker.write_text(WORKER)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PET_", "TORCHELASTIC_"))}
    return subprocess.Popen(
        ["bash", str(ROOT / "scripts" / "launch" / "node.sh"), f"run={folder}/run"],
        env={**kept, "PATH": path, "TRAIN": str(worker), "OUT": str(folder), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def heard(node: subprocess.Popen[str], patience: float) -> str:
    """What a node said; it is killed when its time is up, and its exit status then says so."""
    try:
        return node.communicate(timeout=patience)[0]
    except subprocess.TimeoutExpired:
        node.kill()
        return node.communicate()[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_to_the_launcher_lets_every_process_save(tmp_path: Path, name: str) -> None:
    node = start_node(tmp_path, GPUS="2")
    try:
        end = time.monotonic() + 300
        while len(list(tmp_path.glob("up-*"))) < 2 and node.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        node.send_signal(getattr(signal, name))  # bash has made room for torchrun: there is one process to signal
        said, _ = node.communicate(timeout=300)
    finally:
        node.kill()
    assert sorted(path.name for path in tmp_path.glob("saved-*")) == ["saved-0", "saved-1"], said
    assert node.returncode != 0, "which is why a job reads EXIT.json"


@pytest.mark.slow
def test_two_nodes_start_again_in_place_when_a_process_dies(tmp_path: Path) -> None:
    port = str(free_port())
    nodes = [
        start_node(
            tmp_path, GPUS="1", NODES="2", NODE_RANK=str(rank), HEAD="localhost", PORT=port, KILL="1", JOB="pair"
        )
        for rank in range(2)
    ]
    with ThreadPoolExecutor() as readers:  # both pipes are read, so that neither node waits for room in its own
        said = list(readers.map(lambda node: heard(node, 600), nodes))
    assert [node.returncode for node in nodes] == [0, 0], "\n-- the other node --\n".join(said)
    up = [(tmp_path / f"up-{rank}").read_text().split() for rank in range(2)]
    assert [total for total, _ in up] == ["3", "3"], "they do not add up what both brought"
    assert any(int(attempt) > 0 for _, attempt in up), "the node whose process died counts its attempts"


# -- Kubernetes and SkyPilot -------------------------------------------------------------------------------------------


def processes(words: list[str]) -> int:
    config = compose(words)
    assert config["train"]["processes"] % config["train"]["replicas"] == 0
    return config["train"]["processes"]


def test_the_jobset_is_of_one_piece() -> None:
    node_sh = (ROOT / "scripts" / "launch" / "node.sh").read_text()
    patience = int(re.search(r"PET_SHUTDOWN_TIMEOUT:-(\d+)", node_sh)[1])  # type: ignore[index]
    whole = yaml.safe_load((ROOT / "scripts" / "kubernetes" / "jobset.yaml").read_text())
    assert (whole["apiVersion"], whole["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (job,) = whole["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    told = {each["name"]: each.get("value") for each in container["env"]}
    assert spec["parallelism"] == spec["completions"] == int(told["NODES"])
    name = whole["metadata"]["name"]
    assert told["HEAD"] == f"{name}-{job['name']}-0-0.{name}"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == int(told["GPUS"])
    assert processes(container["args"]) == int(told["NODES"]) * int(told["GPUS"])
    assert (ROOT / container["command"][-1]).is_file()
    assert pod["terminationGracePeriodSeconds"] > patience
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    (rule,) = whole["spec"]["failurePolicy"]["rules"]
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert spec["podFailurePolicy"]["rules"][0]["action"] == "FailJob"


def test_the_trainjob_is_the_same_run() -> None:
    folder = ROOT / "scripts" / "kubernetes"
    trainer = yaml.safe_load((folder / "trainjob.yaml").read_text())["spec"]["trainer"]
    (job,) = yaml.safe_load((folder / "jobset.yaml").read_text())["spec"]["replicatedJobs"]
    (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
    for part in ("command", "args", "image"):
        assert trainer[part] == container[part]
    assert processes(trainer["args"]) == trainer["numNodes"] * trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"]


def test_a_runtime_that_speaks_torchruns_words_is_understood(cluster: Cluster) -> None:
    (cluster.calls / "plan").write_text("finished\n")
    told = {
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "4",
        "PET_NODE_RANK": "0",
        "PET_MASTER_ADDR": "head",
        "PET_MASTER_PORT": "29400",
    }
    command = ["bash", str(cluster.checkout / "scripts" / "launch" / "node.sh"), "name=neko"]
    subprocess.run(command, env=cluster.environment | told, check=True, timeout=300)
    (line,) = cluster.lines("torchrun")
    assert "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint head:29400" in line
    assert "is_host=true" in line
    assert "--nproc-per-node 4" in line
    assert not [each for each in cluster.lines("env") if each.startswith("PET_MASTER")], "torchrun would go by these"


@pytest.mark.parametrize(("how", "code"), [("finished", 0), ("preempted", 75), ("diverged", 1)])
def test_the_skypilot_file_ends_as_the_run_did(cluster: Cluster, tmp_path: Path, how: str, code: int) -> None:
    whole = yaml.safe_load((ROOT / "scripts" / "skypilot" / "train.yaml").read_text())
    assert whole["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]
    gpus = int(whole["resources"]["accelerators"].split(":")[1])
    settings = shlex.split(whole["envs"]["SETTINGS"])
    assert processes(settings) == whole["num_nodes"] * gpus
    (cluster.checkout / ".venv" / "bin").mkdir(parents=True)
    (cluster.checkout / ".venv" / "bin" / "activate").write_text("")
    (cluster.calls / "plan").write_text(f"{how}\n")
    (tmp_path / "store").mkdir()
    told = {
        "SKYPILOT_NUM_NODES": str(whole["num_nodes"]), "SKYPILOT_NODE_RANK": "0", "SKYPILOT_NUM_GPUS_PER_NODE": str(gpus),
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", **whole["envs"], "RUN": str(cluster.checkout / "runs" / "neko"),
    }  # fmt: skip
    script = whole["run"].replace("/store", str(tmp_path / "store"))
    done = subprocess.run(
        ["bash", "-c", script],
        env=cluster.environment | told,
        cwd=cluster.checkout,
        timeout=300,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    (line,) = cluster.lines("torchrun")
    assert "--rdzv-endpoint 10.0.0.1:29500" in line
    for setting in settings:
        assert setting in line
    json.dumps(whole)  # plain data, no tags of YAML
