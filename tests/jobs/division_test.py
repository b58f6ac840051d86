import pytest

from rad_jax.errors import UserError
from rad_jax.jobs.division import Division, division_of, parse_division


def test_every_name_has_one_worker_and_each_about_as_many():
    names = [f"{i:06d}" for i in range(20_000)]
    for count in (1, 2, 7, 8, 64):
        owners = [
            [i for i in range(count) if Division(i, count).has(name)] for name in names
        ]
        assert all(len(owner) == 1 for owner in owners)
        shares = [sum(owner == [i] for owner in owners) for i in range(count)]
        assert max(shares) < 1.3 * len(names) / count


@pytest.mark.parametrize("text", ["9/8", "8/8", "1", "a/b", "-1/8", "1/0", "0/0", ""])
def test_what_is_no_division(text, rad):
    with pytest.raises(UserError, match="must be i/n, from 0; such as 0/8 to 7/8"):
        parse_division(text)
    flags = ("--model", "m", "--image", "i", "--mask", "m", "--output", "o")
    code, _, [line] = rad("inpaint", *flags, f"--shard={text}")
    assert code == 2 and f"--shard {text}: must be i/n" in line


ENVIRONMENTS = {
    "none": ({}, Division(0, 1)),
    "Slurm's array": (
        {
            "SLURM_ARRAY_TASK_ID": "7",
            "SLURM_ARRAY_TASK_MIN": "4",
            "SLURM_ARRAY_TASK_COUNT": "8",
        },
        Division(3, 8),
    ),
    "Kubernetes": (
        {"JOB_COMPLETION_INDEX": "2", "RAD_JAX_NUM_SHARDS": "5"},
        Division(2, 5),
    ),
    "Cloud Run": (
        {"CLOUD_RUN_TASK_INDEX": "0", "CLOUD_RUN_TASK_COUNT": "3"},
        Division(0, 3),
    ),
    "processes": (
        {"RAD_JAX_PROCESS_ID": "1", "RAD_JAX_NUM_PROCESSES": "2"},
        Division(1, 2),
    ),
    "tasks of an array": (
        {
            "SLURM_ARRAY_TASK_ID": "1",
            "SLURM_ARRAY_TASK_COUNT": "2",
            "SLURM_PROCID": "3",
            "SLURM_NTASKS": "4",
        },
        Division(7, 8),
    ),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_schedulers_say(name):
    environment, expected = ENVIRONMENTS[name]
    assert division_of(environment) == expected


WRONG = {
    "no count": ({"JOB_COMPLETION_INDEX": "2"}, "RAD_JAX_NUM_SHARDS is not; set it"),
    "too high": (
        {"CLOUD_RUN_TASK_INDEX": "3", "CLOUD_RUN_TASK_COUNT": "3"},
        "CLOUD_RUN_TASK_INDEX is 3, and CLOUD_RUN_TASK_COUNT 3: number the workers",
    ),
    "gaps": (
        {"SLURM_ARRAY_TASK_ID": "8", "SLURM_ARRAY_TASK_COUNT": "4"},
        "SLURM_ARRAY_TASK_ID is 8, and SLURM_ARRAY_TASK_COUNT 4: number the workers",
    ),
    "words": (
        {"CLOUD_RUN_TASK_INDEX": "x", "CLOUD_RUN_TASK_COUNT": "3"},
        "CLOUD_RUN_TASK_INDEX is 'x'; it must be a number",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_variables_that_do_not_fit(name):
    environment, message = WRONG[name]
    with pytest.raises(UserError, match=message):
        division_of(environment)
