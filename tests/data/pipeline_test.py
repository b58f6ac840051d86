import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rad_jax.data.examples import ToExample
from rad_jax.data.pipeline import Shard, batches
from rad_jax.errors import UserError


def encode(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def record(pixels, **more):
    return {"image": encode(pixels), "name": "x.png", "data_set": "test", **more}


def numbered(n):
    """Records whose label is their index, and whose image tells index and column."""
    columns = np.array([0, 128], np.uint8)
    return [record(np.full((2, 2), i, np.uint8) + columns, label=i) for i in range(n)]


def stream(n, *, batch_size=4, seed=0, channels=1, random_flip=False, **more):
    to_example = ToExample(channels, 2, random_flip=random_flip)
    return batches(numbered(n), to_example, batch_size=batch_size, seed=seed, **more)


def labels(iterator, count):
    return np.stack([next(iterator)["label"] for _ in range(count)])


def assert_same(got, want):
    assert set(got) == set(want) == {"image", "label"}
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])


@pytest.mark.parametrize("channels", [1, 3])
def test_batch_holds_bytes_and_labels(channels):
    batch = next(stream(10, channels=channels))
    image, label = batch["image"], batch["label"]
    assert set(batch) == {"image", "label"}
    assert (image.dtype, label.dtype) == (np.uint8, np.int32)
    assert image.shape == (4, 2, 2, channels)
    for column, add in enumerate((0, 128)):
        expected = np.broadcast_to(label[:, None, None] + add, (4, 2, channels))
        np.testing.assert_array_equal(image[:, :, column], expected)


def test_each_epoch_has_each_example_once_in_a_new_order():
    epochs = labels(stream(10), 15).reshape(6, 10)  # 4 does not divide 10
    for epoch in epochs:
        assert sorted(epoch) == list(range(10))
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_seed_decides_order_and_flips():
    first, same, other = (
        [next(it) for _ in range(10)]
        for it in (stream(50, seed=s, random_flip=True) for s in (1, 1, 2))
    )
    for a, b in zip(first, same, strict=True):
        assert_same(a, b)

    def flips(part):
        return np.concatenate([batch["image"][:, 0, 0, 0] > 127 for batch in part])

    assert (flips(first) != flips(other)).any()
    orders = [[batch["label"].tolist() for batch in part] for part in (first, other)]
    assert orders[0] != orders[1]


def test_flips_are_even_and_new_in_each_epoch():
    it = stream(50, batch_size=50, random_flip=True)
    flipped = {}  # example: whether it was, epoch by epoch
    for _ in range(20):
        batch = next(it)
        image = batch["image"][..., 0]
        is_flipped = image[:, 0, 0] > image[:, 0, 1]
        np.testing.assert_array_equal(image.min(axis=(1, 2)), batch["label"])
        for i, value in zip(batch["label"], is_flipped, strict=True):
            flipped.setdefault(int(i), []).append(bool(value))
    share = np.mean(list(flipped.values()))
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(1000)  # 4 standard deviations
    assert len({tuple(values) for values in flipped.values()}) == 50


def test_resumed_stream_goes_on_bit_for_bit():
    straight = stream(10, random_flip=True)
    for _ in range(3):
        next(straight)
    state = json.loads(json.dumps(straight.get_state()))  # as a checkpoint stores it
    assert state == {"global_next_index": 12}
    resumed = stream(10, random_flip=True)
    next(resumed)  # a stream in use can be moved too
    resumed.set_state(state)
    for _ in range(5):
        assert_same(next(resumed), next(straight))
    assert resumed.get_state() == straight.get_state()


def side_by_side(shards):
    parts = [next(shard) for shard in shards]
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def shards_of(n, count, **more):
    return [
        stream(n, batch_size=8, shard=Shard(i, count), **more) for i in range(count)
    ]


@pytest.mark.parametrize("count", [2, 4])
def test_shards_side_by_side_are_the_batch_of_one(count):
    [whole] = shards_of(10, 1, random_flip=True)
    shards = shards_of(10, count, random_flip=True)
    for _ in range(5):
        assert_same(side_by_side(shards), next(whole))
    assert all(shard.get_state() == whole.get_state() for shard in shards)


def test_two_then_one_then_two_shards_skip_and_repeat_nothing():
    [straight] = shards_of(10, 1)
    want = labels(straight, 9)
    got, state = [], {"global_next_index": 0}
    for count in (2, 1, 2):
        shards = shards_of(10, count)
        for shard in shards:
            shard.set_state(state)
        got += [side_by_side(shards)["label"] for _ in range(3)]
        state = shards[-1].get_state()
    np.testing.assert_array_equal(got, want)
    assert state == {"global_next_index": 72}


def test_workers_do_not_change_the_stream_and_resume():
    threads = stream(20, random_flip=True)
    workers = stream(20, random_flip=True, num_workers=1)
    try:
        for _ in range(3):
            batch = next(workers)
            assert_same(batch, next(threads))
            assert type(batch["image"]) is np.ndarray  # not in shared memory
        assert workers.get_state() == threads.get_state()
    finally:
        workers.close()


@pytest.mark.slow
def test_two_workers_of_two_shards_are_the_one_stream():
    [whole] = shards_of(20, 1)
    shards = shards_of(20, 2, num_workers=2)
    try:
        for _ in range(5):
            assert_same(side_by_side(shards), next(whole))
        for shard in (whole, *shards):
            shard.set_state({"global_next_index": 16})
        for _ in range(2):
            assert_same(side_by_side(shards), next(whole))
    finally:
        for shard in shards:
            shard.close()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_unreadable_image_is_one_line_that_names_it(num_workers):
    bad = {"image": b"GIF89a nonsense", "name": "photos/b.gif", "data_set": "photos"}
    it = batches([bad], ToExample(3, 2), batch_size=1, seed=0, num_workers=num_workers)
    with pytest.raises(UserError, match=r"^photos/b\.gif: .*; take it out") as caught:
        next(it)
    it.close()
    assert "\n" not in str(caught.value)


def test_images_that_are_too_small_are_refused():
    it = batches(numbered(4), ToExample(1, 3), batch_size=1, seed=0)
    line = r"the images of test have 2x2 pixels, image_size is 3"
    with pytest.raises(UserError, match=line):
        next(it)


def test_batch_that_shards_cannot_share_is_refused():
    with pytest.raises(UserError, match=r"batch_size=4: .*multiple.* 3"):
        stream(10, shard=Shard(0, 3))


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(UserError, match="channels=2: must be 1"):
        stream(10, channels=2)


SCRIPT = """
import multiprocessing, os, signal, sys
from rad_jax.data.examples import ToExample
from rad_jax.data.pipeline import batches
from rad_jax.data.records import source

def main():
    records = source("digits", sys.argv[1], "train")
    it = batches(records, ToExample(1, 16), batch_size=4, seed=0, num_workers=1)
    next(it)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    for _ in range(20):
        next(it)
    print("goes on", *(child.pid for child in multiprocessing.active_children()))
    sys.stdout.flush()
    os.kill(os.getpid(), int(sys.argv[2]))

if __name__ == "__main__":
    main()
"""


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("last", [0, signal.SIGKILL])  # none, and one that cannot wait
def test_workers_live_as_long_as_their_parent(tmp_path, digits_dir, last):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, digits_dir, str(int(last))],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        start_new_session=True,
    )
    assert done.returncode == -last
    assert done.stdout.startswith("goes on ")
    workers = [int(pid) for pid in done.stdout.split()[2:]]
    assert workers
    for _ in range(100):
        if not any(alive(pid) for pid in workers):
            return
        time.sleep(0.1)
    raise AssertionError(f"still there: {workers}")
