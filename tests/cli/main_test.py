"""The commands, as a user gives them: files, exit codes and what is said."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import rad_jax
from rad_jax.checkpoints import load
from rad_jax.errors import UserError
from tests.conftest import DIGITS, PROGRESS, ROOT

CONFIG = str(DIGITS)

# One device, as in this process, whose sums the other's must equal.
PROGRAM = "import jax, sys; jax.devices(); from rad_jax.cli.main import main; "


# train


def start(*arguments, before="", env=None):
    """Starts a command in a process of its own."""
    command = [sys.executable, "-c", f"{before}{PROGRAM}sys.exit(main())", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env)


def finish(process):
    """Its output."""
    try:
        return process.communicate(timeout=120)
    except BaseException:
        process.kill()
        process.communicate()
        raise


def test_output_that_nobody_reads_is_no_error():
    """As in ``rad-jax info | head -1``."""
    with start("info") as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (141, "")


def test_a_crash_has_a_code_of_its_own(rad, monkeypatch):
    """1 says that all but some files are done, and launchers do not start it again."""

    def crash(args):
        raise RuntimeError("the driver is gone")

    monkeypatch.setattr("rad_jax.cli.info.run", crash)
    code, _, err = rad("info")
    assert code == 3 and err[0].startswith("Traceback")
    assert err[-1] == "RuntimeError: the driver is gone"


def train_arguments(tiny, workdir, *changes):
    return ["train", "--config", CONFIG, "--workdir", str(workdir), *tiny(*changes)]


@pytest.mark.slow
def test_full_disk_while_saving(tiny, tiny_run, tmp_path, rad):
    """A limit on file size fails like a full disk, with EFBIG instead of ENOSPC."""
    straight, _ = tiny_run
    workdir = tmp_path / "run"
    shutil.copytree(straight, workdir)
    shutil.rmtree(workdir / "checkpoints" / "10")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30000, -1)); "
    # JAX shall not try to keep what it compiles.
    env = os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1000"}
    process = start(*train_arguments(tiny, workdir), before=limit, env=env)
    out, err = finish(process)
    assert process.returncode == 2
    said = [line for line in err.splitlines() if not PROGRESS.match(line)]
    assert said == [
        "rad-jax: resuming from step 5",
        f"rad-jax: {workdir}/checkpoints: cannot be written (File too large); free "
        "some space and rerun the same command to resume",
    ]
    assert out == ""
    assert "step 5," in rad("info", workdir)[1]

    assert rad(*train_arguments(tiny, workdir))[0] == 0
    assert sorted(os.listdir(workdir / "checkpoints")) == ["10", "5"]
    metrics = (workdir / "metrics.jsonl").read_text()
    assert metrics == (straight / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    "changes, message",
    [
        (["train.bach_size=8"], 'Did you mean "batch_size" instead of "bach_size"?'),
        (["train.num_steps=soon"], "train.num_steps=soon: invalid literal for int()"),
        (["train.num_steps=0"], "train.num_steps is 0; it must be >= 1"),
        (["data.data_dir=nowhere"], "rad-jax prepare digits --data_dir nowhere"),
        (["data.name=letters"], "holds no data set 'letters'; to make it: rad-jax"),
        (["data.train_split=valid"], "has no split 'valid'; it has "),
        (["model.model_channels=33"], "model_channels 33"),
        (["schedule.hole_betas=(0.1,)"], "schedule.hole_betas is (0.1,); it must"),
        (["model.channel_mult=('x',)"], "config model.channel_mult[1] is 'x'; it must"),
        (["train.microbatches=3"], "train.batch_size is 4, which train.microbatches=3"),
        (["data.num_workers=-1"], "data.num_workers is -1; it must be >= 0"),
        (["seed=-1"], "seed is -1; it must lie in 0 .. 2**32 - 1"),
    ],
)
def test_mistakes_in_the_config_are_one_line(tiny, tmp_path, rad, changes, message):
    code, out, err = rad(*train_arguments(tiny, tmp_path / "run", *changes))
    assert (code, out, len(err)) == (2, "", 1)
    assert err[0].startswith("rad-jax: ") and message in err[0]
    assert not (tmp_path / "run").exists()


def test_missing_config_file(tmp_path, rad):
    code, _, err = rad("train", "--config", "x/y.py", "--workdir", tmp_path / "run")
    assert code == 2
    assert err == [
        "rad-jax: x/y.py: no such config file; give one such as configs/digits.py"
    ]
    code, _, err = rad("train", "--debug", "--config", "x", "--workdir", tmp_path)
    assert code == 2
    assert err[0] == "Traceback (most recent call last):"
    assert err[-1].startswith("rad-jax: x: no such config file")


def test_workdir_of_another_config(tiny, tiny_run, rad):
    workdir, _ = tiny_run
    arguments = train_arguments(tiny, workdir, "optimizer.learning_rate=1e-4")
    assert rad(*arguments) == (
        2,
        "",
        [
            f"rad-jax: {workdir}: holds a run of another config (optimizer."
            "learning_rate is 0.001 there, 0.0001 here); use another --workdir"
        ],
    )


def test_finished_run(tiny, tiny_run, rad):
    workdir, _ = tiny_run
    assert rad(*train_arguments(tiny, workdir)) == (
        0,
        f"rad-jax: trained 10 steps; the model is {workdir}\n",
        [f"rad-jax: {workdir}: has 10 steps already"],
    )


# inpaint

SIZE = 16


def picture(path, mode="L", seed=0):
    random = np.random.default_rng(seed)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "P": (), "I;16": ()}[mode]
    top, kind = (65536, np.uint16) if mode == "I;16" else (256, np.uint8)
    image = Image.fromarray(random.integers(0, top, (SIZE, SIZE, *channels), kind))
    if mode == "P":
        image = image.convert("RGB").quantize(16)
    image.save(path)
    return path


def mask(path, box=np.s_[4:9, 3:12], size=SIZE):
    hole = np.zeros((size, size), bool)
    hole[box] = True
    Image.fromarray(hole).save(path)
    return path


def pixels(path, mode=None):
    with Image.open(path) as image:
        return np.asarray(image if mode is None else image.convert(mode))


@pytest.fixture(scope="module")
def load_once():
    return functools.cache(load.load)


@pytest.fixture
def inpaint(rad, tiny_run, tmp_path, monkeypatch, load_once):
    """Runs the verb in ``tmp_path``, which has ``a.png`` and ``m.png``."""
    monkeypatch.setattr(load, "load", load_once)
    picture(tmp_path / "a.png")
    mask(tmp_path / "m.png")

    def run(*extra, **changes):
        files = {"image": "a.png", "mask": "m.png", "output": "out.png"} | changes
        arguments = ["--model", tiny_run[0], "--steps", "2"]
        for name, value in files.items():
            arguments += [f"--{name}", tmp_path / value]
        return rad("inpaint", *arguments, *extra)

    return run


def test_picture_is_filled_and_says_how(inpaint, tmp_path):
    code, out, err = inpaint("--seed", "5", "--grid", "quadratic")
    assert (code, err) == (0, [])
    assert str(tmp_path / "out.png") in out
    given, filled = pixels(tmp_path / "a.png"), pixels(tmp_path / "out.png")
    hole = pixels(tmp_path / "m.png").astype(bool)
    np.testing.assert_array_equal(filled[~hole], given[~hole])
    assert (filled[hole] != given[hole]).mean() > 0.9
    with Image.open(tmp_path / "out.png") as image:
        assert image.info["Software"] == f"rad_jax {rad_jax.__version__}"
        assert image.info["Sampler"] == "ddpm, 2 steps, grid quadratic"
        assert image.info["Seed"] == "5"


def test_times_in_place_of_steps(rad, inpaint, tiny_run, tmp_path):
    """The same as steps at these times; known pixels stay."""
    assert inpaint(output="steps.png")[0] == 0
    flags = ("--model", tiny_run[0], "--image", tmp_path / "a.png")
    flags += ("--mask", tmp_path / "m.png", "--output", tmp_path / "times.png")
    assert rad("inpaint", *flags, "--times", "1000,500")[0] == 0
    names = tmp_path / "steps.png", tmp_path / "times.png"
    np.testing.assert_array_equal(pixels(names[0]), pixels(names[1]))
    with Image.open(names[1]) as image:
        assert image.info["Sampler"] == "ddpm, times 1000 500"
    few = ("--sampler", "renoise", "--times", "1000,640,360,160")
    out = ("--output", tmp_path / "few.png")
    assert rad("inpaint", *flags, *out, *few)[0] == 0
    given, filled = pixels(tmp_path / "a.png"), pixels(tmp_path / "few.png")
    hole = pixels(tmp_path / "m.png").astype(bool)
    np.testing.assert_array_equal(filled[~hole], given[~hole])
    code, _, err = rad("inpaint", *flags, *out, "--times", "900,500")
    assert (
        code == 2 and "times begin at 900; those of the model begin at 1000" in err[0]
    )


def test_seed_decides_bytes(inpaint, tmp_path):
    for name, seed in (("a1", 1), ("b1", 1), ("a2", 2)):
        assert inpaint("--seed", seed, output=f"{name}.png")[0] == 0
    one, same, other = (
        (tmp_path / f"{x}.png").read_bytes() for x in ("a1", "b1", "a2")
    )
    assert one == same != other


def test_bfloat16_is_near(inpaint, tmp_path):
    """A few grey levels in two steps of a network that has learnt next to nothing."""
    for name in ("float32", "bfloat16"):
        assert inpaint("--dtype", name, output=f"{name}.png")[0] == 0
    one, other = (
        pixels(tmp_path / f"{name}.png").astype(int) for name in ("float32", "bfloat16")
    )
    hole = pixels(tmp_path / "m.png").astype(bool)
    np.testing.assert_array_equal(one[~hole], other[~hole])
    difference = np.abs(one - other)[hole]
    assert difference.max() > 0 and difference.mean() < 3


def test_several_samples_and_inverted_mask(inpaint, tmp_path):
    code, out, _ = inpaint(
        "--num_samples", "2", "--batch_size", "1", "--invert_mask", output="out"
    )
    assert code == 0 and "2 images" in out
    hole = ~pixels(tmp_path / "m.png").astype(bool)
    given = pixels(tmp_path / "a.png")
    first, second = (pixels(tmp_path / "out" / f"a_{i}.png") for i in (0, 1))
    for filled in (first, second):
        np.testing.assert_array_equal(filled[~hole], given[~hole])
    assert (first[hole] != second[hole]).mean() > 0.5


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "I;16"])
def test_other_kinds_of_pictures(inpaint, tmp_path, mode):
    """The model is grey; a palette becomes RGB."""
    path = picture(tmp_path / "b.png", mode)
    code, _, err = inpaint(image="b.png")
    assert (code, err) == (0, [])
    hole = pixels(tmp_path / "m.png").astype(bool)
    given = pixels(path, "RGB" if mode == "P" else None)
    filled = pixels(tmp_path / "out.png")
    assert filled.dtype == given.dtype and filled.shape == given.shape
    np.testing.assert_array_equal(filled[~hole], given[~hole])
    assert (filled[hole] != given[hole]).any()


def test_mask_without_a_hole_gives_the_picture_back(inpaint, tmp_path):
    mask(tmp_path / "none.png", np.s_[:0])
    code, out, err = inpaint(mask="none.png")
    assert (code, err) == (0, [])
    assert f"{tmp_path}/none.png has no hole; written as it is" in out
    given, filled = pixels(tmp_path / "a.png"), pixels(tmp_path / "out.png")
    np.testing.assert_array_equal(filled, given)


def test_mask_that_is_all_hole(inpaint, tmp_path):
    mask(tmp_path / "all.png", np.s_[:])
    assert inpaint(mask="all.png")[0] == 0
    given, filled = pixels(tmp_path / "a.png"), pixels(tmp_path / "out.png")
    assert filled.shape == given.shape and (filled != given).mean() > 0.9


def test_folder_with_a_broken_picture(inpaint, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed, name in enumerate(("a", "c")):
        picture(folder / f"{name}.png", seed=seed)
    (folder / "b.png").write_text("no picture")
    code, out, err = inpaint(image="pictures", output="out")
    assert code == 1
    assert len(err) == 1 and err[0].startswith("left out b.png: ")
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "c.png", "manifest"]
    assert "2 images" in out
    # Alone, the first gets the same; another batch size sums in another order.
    assert inpaint()[0] == 0
    alone = pixels(tmp_path / "out.png").astype(int)
    assert abs(alone - pixels(tmp_path / "out" / "a.png")).max() <= 1


@pytest.mark.parametrize(
    "extra, changes, message",
    [
        ([], {"image": "no.png"}, "no.png: no such file"),
        ([], {"image": "text.png"}, "text.png: not a picture"),
        ([], {"image": "short.png"}, "short.png: cannot be read"),
        ([], {"mask": "no.png"}, "no.png: no such file"),
        ([], {"mask": "text.png"}, "text.png: not a picture"),
        ([], {"mask": "small.png"}, "the mask has 8x8 pixels and its picture 16x16"),
        ([], {"output": "out.bmp"}, "results are .png, .webp, .tif, .jpg files"),
        ([], {"output": "a.png"}, "a.png: would overwrite an input"),
        (["--steps", "5000"], {}, "steps is 5000; it must lie in 1 .. 1000"),
        (["--steps", "0"], {}, "argument --steps: 0 is not a count; give 1 or more"),
        (["--steps", "few"], {}, "argument --steps: few is not a count; give 1 or"),
        (["--num_samples", "-1"], {}, "-1 is not a count"),
        (["--times", "1000,500"], {}, "--times says what --steps says; give one"),
        (["--times", "1000,half"], {}, "argument --times: half is not a count"),
        (["--sampler", "euler"], {}, "argument --sampler: invalid choice: 'euler'"),
        (["--grid", "cubic"], {}, "argument --grid: invalid choice: 'cubic'"),
        (["--model", "nowhere"], {}, "nowhere: "),
        (["--sede", "1"], {}, "unrecognized arguments: --sede 1"),
    ],
)
def test_mistakes_are_one_line(inpaint, tmp_path, extra, changes, message):
    (tmp_path / "text.png").write_text("no picture")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "short.png").write_bytes(data[: len(data) // 2])
    mask(tmp_path / "small.png", np.s_[:4], size=8)
    code, out, err = inpaint(*extra, **changes)
    assert (code, out, len(err)) == (2, "", 1), err
    assert err[0].startswith("rad-jax") and message in err[0]
    assert not (tmp_path / "out.png").exists()
    assert (tmp_path / "a.png").read_bytes() == data


# the other verbs


def test_masks(rad, tmp_path):
    output = tmp_path / "masks"
    arguments = ("masks", "box", "--size", 16, "--count", 3, "--output", output)
    assert rad(*arguments, "--seed", 7)[0] == 0
    assert sorted(os.listdir(output)) == [
        *(f"000{i}.png" for i in range(3)),
        "contact_sheet.png",
        "coverage.json",
    ]
    settings = json.loads((output / "coverage.json").read_text())["settings"]
    assert settings["seed"] == 7 and settings["max_coverage"] == 0.5
    code, _, err = rad(*arguments)
    assert code == 2 and "masks: holds files already" in err[0]
    code, _, err = rad("masks", "bxo", "--output", tmp_path / "more")
    assert code == 2 and "box" in err[0] and len(err) == 1
    assert rad(*arguments[:-1], tmp_path / "any", "--any_coverage")[0] == 0
    settings = json.loads((tmp_path / "any" / "coverage.json").read_text())["settings"]
    assert settings["max_coverage"] is None


def test_prepare_of_an_unknown_name(rad, tmp_path):
    code, _, err = rad("prepare", "digit", "--data_dir", tmp_path)
    assert code == 2
    [line] = err
    assert line.startswith("rad-jax: data set 'digit': unknown; did you mean 'digits'?")


def test_prepare_again(rad, digits_dir):
    code, out, _ = rad("prepare", "digits", "--data_dir", digits_dir)
    assert code == 0 and out.startswith("digits: already prepared in ")


def test_checkpoint_cut_off_in_the_middle(rad, tiny_run, tmp_path):
    """The one before is used; with none left, one line."""
    workdir = tmp_path / "run"
    shutil.copytree(tiny_run[0], workdir)
    for step, code in ((10, 0), (5, 2)):
        folder = workdir / "checkpoints" / str(step)
        files = [path for path in (folder / "ema").rglob("*") if path.is_file()]
        largest = max(files, key=os.path.getsize)
        os.truncate(largest, os.path.getsize(largest) // 2)
        found, out, err = rad("info", workdir)
        assert found == code
        assert f"rad-jax: {folder}: damaged" in " ".join(err)
        assert out.startswith(f"{workdir}: step 5") == (code == 0)
    assert "every checkpoint is damaged; restore the folder from a copy" in err[-1]


def test_info(rad, tiny_run, tmp_path):
    code, out, _ = rad("info")
    assert code == 0
    assert f"rad_jax {rad_jax.__version__}\n" in out and "device 0: cpu" in out
    workdir, state = tiny_run
    code, out, _ = rad("info", workdir)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    head, _, config = out.partition("\n")
    assert head == f"{workdir}: step 10, {count:,} parameters (float32)"
    assert json.loads(config)["optimizer"]["ema_decay"] == 0.2
    code, _, err = rad("info", tmp_path)
    assert code == 2 and len(err) == 1 and str(tmp_path) in err[0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "rad-jax: the following arguments are required: VERB"),
        (["trian"], "rad-jax: argument VERB: invalid choice: 'trian'"),
        (["train"], "rad-jax train: the following arguments are required: --config"),
        (["info", "--config.seed=1"], "rad-jax: unrecognized arguments: --config.seed"),
        (
            ["train", "--config", CONFIG, "--workdir", "y", "--config.seed"],
            "digits.py: Missing value for flag --config.seed",
        ),
        (["masks", "box", "--size", "big"], "invalid int value: 'big'"),
    ],
)
def test_unknown_verbs_and_flags_are_one_line(rad, arguments, message):
    code, out, err = rad(*arguments)
    assert (code, out, len(err)) == (2, "", 1)
    assert message in err[0]


def test_overrides_with_a_space(rad, monkeypatch):
    """As ml_collections' users write them; a negative number is a value."""
    seen = []

    def keep(path, overrides):
        seen.append(overrides)
        raise UserError("far enough")

    monkeypatch.setattr("rad_jax.config.file.load_config", keep)
    given = "--config.seed -1 --config.train.batch_size=8 --config.loss.all_pixels"
    given += " --dry_run --noconfig.data.random_flip --config.mask.blur .5 --config.x"
    code, _, err = rad("train", "--config", CONFIG, *given.split(), "")
    assert (code, err) == (2, ["rad-jax: far enough"])
    assert seen == [
        [
            "--config.seed=-1",
            "--config.train.batch_size=8",
            "--config.loss.all_pixels",
            "--noconfig.data.random_flip",
            "--config.mask.blur=.5",
            "--config.x=",
        ]
    ]
    code, _, err = rad("train", "--config", CONFIG, "--config.seed", "1", "2")
    assert code == 2 and "unrecognized arguments: 2" in err[0]


def test_version_and_help(rad):
    assert rad("--version") == (0, f"{rad_jax.__version__}\n", [])
    done = subprocess.run(
        [sys.executable, "-m", "rad_jax", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    verbs = (
        "demo prepare preflight train inpaint evaluate reference report sample "
        "convert masks info"
    )
    for verb in verbs.split():
        assert re.search(rf"^    {verb}\s+\w", done.stdout, re.MULTILINE)


def test_neither_tensorflow_nor_torch_is_imported(tiny, tiny_run, tmp_path):
    """Every verb for real, the demo's modules only, in one process."""
    program = """
import importlib.machinery, json, sys

class Installed:  # they can be found, but not imported
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "torch"):
            return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        raise RuntimeError(f"{spec.name} is imported")

    def exec_module(self, module):
        raise AssertionError

sys.meta_path.insert(0, Installed())
from rad_jax.cli.main import main
assert "jax" not in sys.modules  # --help answers at once
import jax
jax.devices()  # one device: what was compiled before fits
for arguments in json.loads(sys.argv[1]):
    if main(arguments):
        sys.exit(f"failed: {arguments}")
import rad_jax.evaluate.demo, rad_jax.inference.inpaint
rad_jax.load
"""
    picture(tmp_path / "a.png")
    mask(tmp_path / "m.png")
    data = str(tmp_path / "data")
    changes = (f"data.data_dir={data}", "train.num_steps=1", "train.checkpoint_every=1")
    arguments = [
        ["prepare", "digits", "--data_dir", data],
        train_arguments(tiny, tmp_path / "run", *changes),
        ["masks", "box", "--size", "16", "--output", str(tmp_path / "masks")],
        ["info"],
        ["info", str(tmp_path / "run")],
        ["inpaint", "--model", str(tmp_path / "run"), "--steps", "1"],
    ]
    for name, file in (("image", "a.png"), ("mask", "m.png"), ("output", "out.png")):
        arguments[-1] += [f"--{name}", str(tmp_path / file)]
    output = ["--output", str(tmp_path / "sample.png")]
    arguments.append(
        ["sample", "--model", str(tmp_path / "run"), "--respacing", "1", *output]
    )
    choices = "--image_size 8 --num_head_channels 32 --noise_schedule linear"
    order = "--use_new_attention_order false"
    for source, target, more in (
        ("run", "a.pt", "--to torch"),
        ("a.pt", "model", f"{choices} {order}"),
    ):
        files = ["--input", str(tmp_path / source), "--output", str(tmp_path / target)]
        arguments.append(["convert", *files, *more.split()])
    arguments.append(["info", str(tmp_path / "model")])
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "train needs --workdir, the folder of the run (or --dry_run)"),
        (["--workdir", "s3://bucket/run"], "s3://bucket/run: give a folder, or an"),
    ],
)
def test_train_needs_a_folder(rad, arguments, message):
    code, out, [line] = rad("train", "--config", CONFIG, *arguments)
    assert (code, out) == (2, "") and message in line


@pytest.mark.parametrize("verb", ["train", "preflight"])
def test_cores_share_a_part_of_the_batch(monkeypatch, tiny, rad, verb):
    """Each of a step's parts is divided over the devices, not the batch at once."""
    asked = []

    def stop(count):
        asked.append(count)
        raise UserError("far enough")

    monkeypatch.setattr("rad_jax.runtime.sharding.use_cpu_cores", stop)
    changes = tiny("train.batch_size=8", "train.microbatches=4")
    arguments = [verb, "--config", CONFIG, "--workdir", "run", *changes]
    code, _, err = rad(*arguments)
    assert (code, err, asked) == (2, ["rad-jax: far enough"], [2])
