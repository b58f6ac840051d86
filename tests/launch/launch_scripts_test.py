"""The scripts of launch/: what they print, and that they do what they print."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import yaml

from rad_jax.jobs.division import Division, division_of
from rad_jax.runtime import distributed
from tests.launch import scripts
from tests.launch.scripts import CASES, DRY_RUNS, ROOT, Runner

SHELL = [*ROOT.glob("launch/**/*.sbatch"), *ROOT.glob("launch/**/*.sh")]
SCHEMA = yaml.safe_load(Path(__file__).with_name("jobset.schema.json").read_text())
SCRIPTS = [name for name in CASES if not name.startswith("local")]


@pytest.fixture
def script(tmp_path):
    return Runner(tmp_path)


def test_shellcheck():
    shellcheck = Path(sys.executable).with_name("shellcheck")
    found = subprocess.run(
        [shellcheck, "--external-sources", *SHELL], cwd=ROOT, capture_output=True
    )
    assert not found.returncode, found.stdout.decode()
    for path in SHELL:
        assert path.name == "common.sh" or os.access(path, os.X_OK), path


@pytest.mark.parametrize("name", CASES)
def test_dry_runs_are_those_that_are_stored(name, script):
    """If not: python tests/launch/scripts.py, and look at the difference."""
    command, variables = CASES[name]
    result = script(command, **variables)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == (DRY_RUNS / f"{name}.txt").read_text()
    assert script.calls() == []


def test_no_dry_run_is_left_over():
    assert {path.stem for path in DRY_RUNS.iterdir()} == set(CASES)


@pytest.mark.parametrize("name", [x for x in SCRIPTS if x != "tpu_watch"])
def test_a_run_does_what_its_dry_run_prints(name, script):
    command, variables = CASES[name]
    result = script(command.replace(" --dry_run", ""), **variables)
    assert result.returncode == 0, result.stderr
    stored = (DRY_RUNS / f"{name}.txt").read_text()
    if name.startswith("gke"):
        command, text = stored.removesuffix("EOF\n").split(" <<'EOF'\n")
        assert script.calls() == [shlex.split(command)]
        assert (script.answers / "stdin").read_text() == text
    else:
        assert script.calls() == [shlex.split(line) for line in stored.splitlines()]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_missing_variable_is_named(name, script):
    command, variables = CASES[name]
    for missing in needed(name):
        given = {key: value for key, value in variables.items() if key != missing}
        result = script(command.replace(" --dry_run", ""), **given)
        assert result.returncode == 2
        assert re.fullmatch(rf"\w+\.sh: set {missing}, e\.g\. .*\n", result.stderr)
        assert script.calls() == []


def needed(name):
    """Variables without a default; the verbs of tpu.sh need a few each."""
    if not name.startswith("tpu"):
        optional = {"DATA_DIR", "CACHE_DIR", "PUSH", "SLICES", "SPOT", "MASKS"}
        flags = {"SBATCH_FLAGS", "TRAIN_FLAGS", "INPAINT_FLAGS"}
        return set(CASES[name][1]) - optional - flags - {"MOST_AT_ONCE"}
    verbs = {
        "create": {"ACCELERATOR_TYPE", "RUNTIME_VERSION"},
        "setup": {"WHEEL"},
        "run": {"CONFIG", "WORKDIR"},
    }
    verbs["watch"] = set.union(*verbs.values())
    return {"NAME", "PROJECT", "ZONE"} | verbs.get(name.removeprefix("tpu_"), set())


@pytest.mark.parametrize(
    "command",
    [
        *("tpu/tpu.sh", "tpu/tpu.sh fly", "docker/build.sh rocm"),
        *("gke/apply.sh cpu", "gke/apply.sh inpaint"),
    ],
)
def test_another_verb_is_refused(command, script):
    everything = scripts.TPU | scripts.GKE_TPU | scripts.DOCKER
    result = script(f"launch/{command}", **everything)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert script.calls() == []


def test_a_slice_that_is_there_is_not_asked_for_again(script):
    script.answer("slice", "WAITING_FOR_RESOURCES")
    result = script("launch/tpu/tpu.sh create", **scripts.TPU)
    assert result.returncode == 0 and "WAITING_FOR_RESOURCES" in result.stderr
    assert [call[4] for call in script.calls()] == ["list"]


def verbs(calls):
    """What `watch` did, in words."""
    words = []
    for call in calls:
        if call[3] == "queued-resources":
            words += [call[4]] if call[4] != "list" else []
        elif call[4] == "ssh":
            found = re.search(r"on_worker.sh (\w+)", " ".join(call))
            words += [found[1]] if found and found[1] != "status" else []
    return words


def test_watch_does_what_its_dry_run_prints(script):
    script.answer("slice", "", "ACTIVE", "ACTIVE")
    script.answer("node", "READY", "READY")
    script.answer("program", "error", "exit 0,exit 0")
    result = script("launch/tpu/tpu.sh watch", **scripts.TPU)
    assert result.returncode == 0, result.stderr
    lines = (DRY_RUNS / "tpu_watch.txt").read_text().splitlines()
    printed = [shlex.split(line) for line in lines]
    # Then it looks again, and sees that training is done.
    assert script.calls() == [*printed, *printed[2:5]]


@pytest.mark.parametrize(
    ("slices", "nodes"),
    [
        (("SUSPENDING", "SUSPENDED"), ("READY",)),
        (("FAILED",), ("READY",)),
        (("ACTIVE",), ("READY", "PREEMPTED")),
    ],
    ids=["suspended", "failed", "preempted"],
)
def test_watch_asks_again_for_a_slice_that_was_taken_away(script, slices, nodes):
    states = ("", "ACCEPTED", "ACTIVE", *slices, "", "PROVISIONING", "ACTIVE", "ACTIVE")
    script.answer("slice", *states)
    script.answer("node", *nodes, "READY", "READY")
    script.answer("program", "error", "error", "exit 0")
    result = script("launch/tpu/tpu.sh watch", **scripts.TPU)
    assert result.returncode == 0, result.stderr
    once = ["create", "install", "start"]
    assert verbs(script.calls()) == [*once, "delete", *once]
    assert "asking for another" in result.stderr


def test_watch_starts_the_program_again(script):
    script.answer("slice", *["error", *["ACTIVE"] * 5])
    programs = ("running,running", "running,exit 1", "exit 143,exit 0", "lost,running")
    script.answer("program", *programs, "exit 0,exit 0")
    result = script("launch/tpu/tpu.sh watch", **scripts.TPU)
    assert result.returncode == 0, result.stderr
    assert verbs(script.calls()) == ["stop", "start"] * 3


def test_watch_gives_up(script):
    script.answer("slice", *["ACTIVE"] * 9)
    script.answer("program", *["exit 255"] * 9)
    result = script("launch/tpu/tpu.sh watch", **scripts.TPU, MAX_RESTARTS="2")
    assert result.returncode == 1
    assert verbs(script.calls()) == ["stop", "start"] * 2


def test_watch_does_not_repeat_a_mistake(script):
    script.answer("slice", "ACTIVE")
    script.answer("program", "exit 1,exit 2")
    result = script("launch/tpu/tpu.sh watch", **scripts.TPU)
    assert result.returncode == 2
    assert verbs(script.calls()) == []


@pytest.fixture
def worker(tmp_path):
    shutil.copy(ROOT / "launch" / "tpu" / "on_worker.sh", tmp_path)

    def run(*arguments):
        result = subprocess.run(
            ["bash", tmp_path / "on_worker.sh", *arguments],
            env={"PATH": os.defpath, "HOME": "/", "MEMORY": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=30,
        )
        return result.stdout.strip()

    yield run
    run("stop")


def until(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


def test_a_worker_starts_one_program_and_tells_its_exit_code(worker, tmp_path):
    assert worker("status") == "lost"
    wait = 'echo hello; until [ -e "$0" ]; do sleep 0.05; done; exit 2'
    assert worker("start", "bash", "-c", wait, str(tmp_path / "go on")) == "started"
    assert worker("status") == "running"
    assert worker("start", "false") == "already running"
    (tmp_path / "go on").touch()
    until(lambda: worker("status") == "exit 2")
    assert (tmp_path / "train.log").read_text() == "hello\n"
    assert worker("start", "true") == "started"
    until(lambda: worker("status") == "exit 0")


def test_a_worker_stops_its_program_by_one_signal(worker, tmp_path):
    count = 'trap "echo TERM; sleep 0.3; exit 143" TERM; echo up; sleep 60 & wait'
    worker("start", "bash", "-c", count)
    log = tmp_path / "train.log"
    until(lambda: log.read_text() == "up\n")
    assert worker("stop") == "stopped"
    assert log.read_text() == "up\nTERM\n"
    assert worker("status") == "lost"


@pytest.mark.parametrize(
    ("code", "variables", "queued"),
    [
        (0, {}, False),
        (2, {}, False),
        (143, {"SLURM_RESTART_COUNT": "99"}, True),
        (1, {}, True),
        (137, {"SLURM_RESTART_COUNT": "19"}, True),
        (1, {"SLURM_RESTART_COUNT": "20"}, False),
        (143, {"SRUN_SIGNAL": "1"}, False),
    ],
    ids=["done", "mistake", "stop", "crash", "kill", "crashes", "scancel"],
)
def test_slurm_queues_again_what_may_go_on(script, code, variables, queued):
    result = script(
        "launch/slurm/train.sbatch --config c.py --workdir 'a b'",
        SLURM_NTASKS="16",
        SLURM_JOB_ID="7",
        SRUN_CODE=str(code),
        **variables,
    )
    first, *others = script.calls()
    assert first[0] == "srun" and "--gpu-bind=none" in first
    train = ["rad-jax", "train", "--config", "c.py", "--workdir", "a b"]
    assert first[-6:] == train
    assert others == ([["scontrol", "requeue", "Incomplete", "7"]] if queued else [])
    assert result.returncode == (0 if queued else code), result.stderr


@pytest.mark.parametrize(
    ("code", "variables", "queued"),
    [
        (0, {}, False),
        (1, {}, False),
        (2, {}, False),
        (143, {"SLURM_RESTART_COUNT": "99"}, True),
        (3, {}, True),
        (137, {"SLURM_RESTART_COUNT": "19"}, True),
        (137, {"SLURM_RESTART_COUNT": "20"}, False),
        (143, {"SRUN_SIGNAL": "1"}, False),
    ],
    ids=["done", "some", "mistake", "time", "crash", "kill", "crashes", "scancel"],
)
def test_slurm_queues_again_the_element_that_may_go_on(script, code, variables, queued):
    result = script(
        "launch/slurm/inpaint.sbatch --model m --image 'a b'",
        SHARDS="16",
        SLURM_ARRAY_JOB_ID="7",
        SLURM_ARRAY_TASK_ID="3",
        SLURM_JOB_ID="7",  # as of one of an array's elements
        SLURM_CPUS_PER_TASK="8",
        SRUN_CODE=str(code),
        **variables,
    )
    first, *others = script.calls()
    inpaint = ["rad-jax", "inpaint", "--shard", "3/16", "--model", "m"]
    assert first == ["srun", "--cpus-per-task=8", *inpaint, "--image", "a b"]
    assert others == ([["scontrol", "requeue", "Incomplete", "7_3"]] if queued else [])
    assert result.returncode == (0 if queued else code), result.stderr
    assert ("images that are named above" in result.stderr) == (code == 1)


@pytest.mark.parametrize("name", [x for x in SCRIPTS if x.endswith("inpaint")])
def test_masks_and_a_limit_may_be_left_out(name, script):
    command, variables = CASES[name]
    less = {x: y for x, y in variables.items() if x not in ("MASKS", "MOST_AT_ONCE")}
    result = script(command, **less)
    assert result.returncode == 0, result.stderr
    assert "--mask " not in result.stdout and "--array=0-15 " in result.stdout


@pytest.mark.parametrize("value", ["0", "-1", "4x", "08"])
@pytest.mark.parametrize("name", [x for x in SCRIPTS if "inpaint" in x])
def test_a_number_of_workers_is_one(name, value, script):
    command, variables = CASES[name]
    for key in ("SHARDS", "MOST_AT_ONCE"):
        result = script(command, **(variables | {key: value}))
        assert result.returncode == 2
        assert f"{key} is {value}; it must be a number" in result.stderr


def inpaint_job(kind, script, **changes):
    """A Job that is valid, and its pod's one container."""
    command, variables = CASES[f"gke_inpaint_{kind}"]
    text = script(command, **(variables | changes)).stdout
    job = yaml.safe_load("\n".join(text.splitlines()[1:-1]))
    jsonschema.validate(job, SCHEMA | {"$ref": "#/$defs/BatchJob"})
    assert "${" not in str(job)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return job["spec"], container


@pytest.mark.parametrize("kind", ["tpu", "gpu"])
def test_jobs_of_workers_are_valid(kind, script):
    template = yaml.safe_load((ROOT / f"launch/gke/inpaint-{kind}.yaml").read_text())
    assert template["kind"] == "Job"  # valid before it is filled in, too
    job, container = inpaint_job(kind, script)
    assert (job["completions"], job["parallelism"]) == (16, 4)
    assert container["args"] == [
        *("inpaint", "--model=/shared/runs/ffhq256", "--image=/shared/photos/*.jpg"),
        *("--output=/shared/filled", "--mask=/shared/masks"),
        *("--mask_pattern", "{stem}_mask.png", "--seed", "7"),
    ]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in job["template"]["spec"]["volumes"]}


def test_pods_divide_the_images(script):
    job, container = inpaint_job("gpu", script)
    env = {each["name"]: each["value"] for each in container["env"]}
    parts = {
        # Kubernetes sets the first, in the pods of an Indexed Job.
        division_of({"JOB_COMPLETION_INDEX": str(index), **env})
        for index in range(job["completions"])
    }
    assert parts == {Division(index, 16) for index in range(16)}


@pytest.mark.parametrize("kind", ["tpu", "gpu"])
def test_a_pod_is_made_again_where_it_may_go_on(kind, script):
    job, container = inpaint_job(kind, script)
    assert job["completionMode"] == "Indexed" and job["backoffLimitPerIndex"] == 20
    disrupted, *rules = job["podFailurePolicy"]["rules"]
    assert disrupted["action"] == "Ignore"  # not counted, and so made again
    actions = {}
    for rule in rules:
        assert rule["onExitCodes"]["containerName"] == container["name"]
        actions |= dict.fromkeys(rule["onExitCodes"]["values"], rule["action"])
    assert actions == {1: "FailIndex", 2: "FailJob"}  # others are counted
    assert inpaint_job(kind, script, MAX_RESTARTS="3")[0]["backoffLimitPerIndex"] == 3


@pytest.mark.parametrize("kind", ["tpu", "gpu"])
def test_spot_nodes_are_used_where_that_is_asked_for(kind, script):
    for spot in ("", "1"):
        pod = inpaint_job(kind, script, SPOT=spot)[0]["template"]["spec"]
        keys = [toleration["key"] for toleration in pod["tolerations"]]
        assert ("cloud.google.com/gke-spot" in pod["nodeSelector"]) == bool(spot)
        assert ("cloud.google.com/gke-spot" in keys) == bool(spot)


def jobset(kind, script):
    command, variables = CASES[f"gke_{kind}"]
    text = script(command, **variables).stdout
    return yaml.safe_load("\n".join(text.splitlines()[1:-1]))


@pytest.mark.parametrize("kind", ["tpu", "gpu"])
def test_jobsets_are_valid(kind, script):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jobs = jobset(kind, script)
    jsonschema.validate(jobs, SCHEMA)
    assert "${" not in str(jobs)
    template = yaml.safe_load((ROOT / f"launch/gke/jobset-{kind}.yaml").read_text())
    assert template["kind"] == "JobSet"  # valid before it is filled in, too

    (replicated,) = jobs["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert job["completions"] == job["parallelism"]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    assert container["args"][-2:] == scripts.GKE["TRAIN_FLAGS"].split()
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == container["name"]


def test_gpu_processes_are_told_where_the_others_are(script):
    jobs = jobset("gpu", script)
    (replicated,) = jobs["spec"]["replicatedJobs"]
    (container,) = replicated["template"]["spec"]["template"]["spec"]["containers"]
    env = {each["name"]: each.get("value") for each in container["env"]}
    job_set, job = jobs["metadata"]["name"], replicated["name"]
    coordinator, count, index = distributed.EXPLICIT
    assert env[coordinator] == f"{job_set}-{job}-0-0.{job_set}:8476"
    assert env[count] == env[distributed.EXPECTED] == "4"
    assert env[index] is None  # from the pod's annotation


def test_tpu_processes_of_all_slices_are_counted(script):
    (replicated,) = jobset("tpu", script)["spec"]["replicatedJobs"]
    (container,) = replicated["template"]["spec"]["template"]["spec"]["containers"]
    env = {each["name"]: each["value"] for each in container["env"]}
    assert env[distributed.EXPECTED] == "8"
    assert not set(distributed.EXPLICIT) & set(env)


@pytest.mark.parametrize("value", ['a"b', "a b", "a\\b", "a\nb"])
def test_a_value_cannot_break_out_of_the_yaml(value, script):
    variables = scripts.GKE_GPU | {"WORKDIR": value}
    result = script("launch/gke/apply.sh gpu", **variables)
    assert result.returncode == 2 and "WORKDIR" in result.stderr
    assert script.calls() == []


@pytest.mark.parametrize("kind", ["tpu", "cuda"])
def test_images_are_pinned_and_copy_what_is_there(kind):
    text = (ROOT / "launch" / "docker" / f"Dockerfile.{kind}").read_text()
    (base,) = re.findall(r"^FROM (\S+)", text, re.M)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base)
    assert "USER 1000:1000\n" in text and text.endswith('ENTRYPOINT ["rad-jax"]\n')
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    for copy in re.findall(r"^COPY (.+) \S+$", text, re.M):
        for name in copy.split():
            assert (ROOT / name).exists(), name
            assert f"!{name.split('/')[0]}" in kept
    pinned = re.search(r"^COPY (requirements\S+)", text, re.M)
    assert pinned
    lines = (ROOT / pinned[1]).read_text().splitlines()
    assert all(re.match(r"[\w.-]+==[\w.]+( ;|$)", line) for line in lines)
    assert any(
        line.startswith({"tpu": "libtpu", "cuda": "jax-cuda13"}[kind]) for line in lines
    )


def test_requirements_differ_in_what_drives_the_devices_only():
    tpu = set((ROOT / "requirements-tpu.txt").read_text().splitlines())
    cuda = set((ROOT / "requirements" / "cuda.txt").read_text().splitlines())
    assert {re.split("[-=]", line)[0] for line in tpu - cuda} == {"libtpu"}
    others = {line for line in cuda - tpu if not line.startswith("nvidia-")}
    assert all(line.startswith("jax-cuda13-") for line in others)
    assert sorted(cuda) == (ROOT / "requirements" / "cuda.txt").read_text().splitlines()


def test_requirements_of_the_chips_tests_are_those_of_tpus_and_of_pytest():
    first, *more = (ROOT / "requirements" / "chips.txt").read_text().splitlines()
    assert first == "-r ../requirements-tpu.txt"
    assert set(more) < set((ROOT / "requirements" / "dev.txt").read_text().splitlines())
