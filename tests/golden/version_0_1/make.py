"""Makes folders.tar.xz: what rad_jax 0.1.0 writes, and what it gives from that.

``PYTHONPATH=<checkout> python make.py <new folder>`` makes it in the new folder. The
checkout was 6ff5984, the last commit before the modules moved into packages; with
``JAX_NUM_CPU_DEVICES=1 JAX_DISABLE_MOST_OPTIMIZATIONS=true``, on a CPU.

Parameters have few values, and the one step of each run changes only the last layer,
whose kernel is zero before: what would be megabytes can be compressed to a tenth.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

SIZE = 16

CONFIG = (
    "data.name=pictures",
    "data.data_dir=data",
    "data.eval_split=validation",
    "model.in_channels=3",
    "model.out_channels=3",
    "model.model_channels=32",
    "model.channel_mult=(1,)",
    "model.attention_resolutions=()",
    "model.num_head_channels=32",
    "model.resblock_updown=True",
    "loss.parametrisation=eps",
    "optimizer.learning_rate=0.01",
    "optimizer.warmup_steps=0",
    "optimizer.decay=constant",
    "optimizer.ema_decay=0.2",
    "train.batch_size=4",
    "train.log_every=1",
    "train.checkpoint_every=100",
    "train.keep_checkpoints=1",
    "train.sample_every=0",
)
LORA = ("lora.rank=1", "lora.alpha=2.0")


def rad(*arguments):
    command = [sys.executable, "-m", "rad_jax", *map(str, arguments)]
    subprocess.run(command, check=True)


def train(workdir, num_steps, *changes):
    changes = (*CONFIG, f"train.num_steps={num_steps}", *changes)
    changes = [f"--config.{change}" for change in changes]
    rad("train", "--config", "configs/digits.py", "--workdir", workdir, *changes)


def picture(random):
    """A soft blob of one colour on another."""
    y, x = np.mgrid[:SIZE, :SIZE]
    centre, colours = random.uniform(4, 12, 2), random.uniform(0, 255, (2, 3))
    inside = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 20)[..., None]
    pixels = inside * colours[0] + (1 - inside) * colours[1]
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def few_values(name, array):
    """Kernels of one size and random signs, the last one zero."""
    if array.ndim < 2:
        return array
    if name.startswith("out."):
        return np.zeros_like(array)
    seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    signs = np.random.RandomState(seed).choice([-1, 1], array.shape)
    return (signs / np.sqrt(array[0].size)).astype(np.float32)


def checksum(folder):
    """Of a model's parameters as `rad_jax.load` gives them."""
    import rad_jax

    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(rad_jax.load(folder).params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def lines(workdir, first):
    """Of the metrics, from this step on."""
    found = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line for line in found if line["step"] >= first]


def main():
    random, scratch = np.random.RandomState(0), Path("scratch")
    for folder in ("images", "masks"):
        (scratch / folder).mkdir(parents=True)
    for i in range(20):
        picture(random).save(scratch / "images" / f"{i:02d}.png")
    source = ("--source", scratch / "images", "--size", SIZE)
    rad("prepare", "pictures", "--data_dir", "data", *source, "--num_workers", 1)

    train(scratch / "first", 1)
    drawn, changed = scratch / "drawn.safetensors", scratch / "changed.safetensors"
    source = ("--input", scratch / "first")
    rad("convert", *source, "--output", drawn, "--to", "safetensors")
    save_file({k: few_values(k, v) for k, v in load_file(drawn).items()}, changed)
    about = "--image_size 16 --num_head_channels 32 --noise_schedule linear"
    about += " --use_new_attention_order false"
    start = scratch / "start"
    rad("convert", "--input", changed, "--output", start, *about.split())

    train("run", 1, f"pretrained={start}")
    rad("convert", "--input", "run", "--output", "model")
    train("lora", 1, f"pretrained={start}", *LORA)
    rad("convert", "--input", "lora", "--output", "adapters", "--to", "adapters")

    picture(random).save("image.png")
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[4:11, 5:14] = 255
    Image.fromarray(mask).save("mask.png")
    files = ("--image", "image.png", "--mask", "mask.png", "--output", "filled.png")
    rad("inpaint", "--model", "model", *files, "--steps", 3, "--seed", 0)
    data = ("--data", "pictures", "--data_dir", "data", "--split", "validation")
    rest = "--masks box --num_images 2 --steps 2 --metrics pixels --batch_size 2"
    rad("evaluate", "--model", "run", *data, "--output", "evaluation", *rest.split())

    params = {name: checksum(Path(name)) for name in ("run", "model")}
    expected = {"params": params, "metrics": {}}
    for name, changes in (("run", ()), ("lora", LORA)):
        copy = scratch / name
        shutil.copytree(name, copy)
        train(copy, 3, f"pretrained={start}", *changes)
        expected["metrics"][name] = lines(copy, 2)
    Path("expected.json").write_text(json.dumps(expected, indent=2) + "\n")
    shutil.rmtree(scratch)
    for path in Path().rglob("commit_success.txt"):  # Orbax names the whole path
        path.write_text(path.read_text().replace(str(Path.cwd()), "folder"))
    command = "tar -cJf folders.tar.xz --sort=name --owner=0 --group=0 --numeric-owner"
    subprocess.run(f"{command} --exclude=tensorboard -- *", shell=True, check=True)


if __name__ == "__main__":
    os.makedirs(sys.argv[1])
    os.chdir(sys.argv[1])
    main()
