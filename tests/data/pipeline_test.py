import glob
import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from rad_jax.data import pipeline
from rad_jax.data.prepare import prepare
from rad_jax.errors import UserError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    prepare("digits", folder)
    return folder


@pytest.fixture
def copied(data_dir, tmp_path):
    """A data set that a test may damage: its folder of folders, and its own."""
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    return tmp_path, tmp_path / "digits" / "1.0.0"


def encode(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def numbered(n):
    """Records whose label is their index, and whose image is filled with it."""
    return [
        {"image": encode(np.full((2, 3), i, np.uint8)), "label": i} for i in range(n)
    ]


def stream(n, *, batch_size=4, seed=0, channels=1, **shard):
    return pipeline.batches(
        numbered(n), batch_size=batch_size, seed=seed, channels=channels, **shard
    )


def labels(iterator, count):
    return np.stack([next(iterator)["label"] for _ in range(count)])


@pytest.mark.parametrize("channels", [1, 3])
def test_batch_holds_bytes_and_labels(channels):
    batch = next(stream(10, channels=channels))
    image, label = batch["image"], batch["label"]
    assert set(batch) == {"image", "label"}
    assert (image.dtype, label.dtype) == (np.uint8, np.int32)
    expected = np.broadcast_to(label[:, None, None, None], (4, 2, 3, channels))
    np.testing.assert_array_equal(image, expected)


def test_colour_and_grey_are_converted():
    red = np.zeros((2, 3, 3), np.uint8)
    red[..., 0] = 255
    record = {"image": encode(red), "label": 7}
    np.testing.assert_array_equal(pipeline.decode(record, "RGB")["image"], red)
    grey = pipeline.decode(record, "L")["image"]
    np.testing.assert_array_equal(grey, np.full((2, 3, 1), 76))  # 0.299 * 255


def test_data_set_without_classes_has_label_0():
    record = {"image": encode(np.zeros((2, 3), np.uint8))}
    assert pipeline.decode(record, "L")["label"] == 0


def test_each_epoch_has_each_example_once_in_a_new_order():
    epochs = labels(stream(10), 15).reshape(6, 10)  # 4 does not divide 10
    for epoch in epochs:
        assert sorted(epoch) == list(range(10))
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_seed_decides_the_order():
    first, same, other = (labels(stream(50, seed=s), 10) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_resumed_stream_goes_on_bit_for_bit():
    straight = stream(10)
    for _ in range(3):
        next(straight)
    state = json.loads(json.dumps(straight.get_state()))  # as a checkpoint stores it
    assert state == {"global_next_index": 12}
    resumed = stream(10)
    next(resumed)  # a stream in use can be moved too
    resumed.set_state(state)
    for _ in range(5):
        want, got = next(straight), next(resumed)
        np.testing.assert_array_equal(got["image"], want["image"])
        np.testing.assert_array_equal(got["label"], want["label"])
    assert resumed.get_state() == straight.get_state()


def test_two_shards_are_the_one_stream_and_resume_as_one():
    whole = labels(stream(10), 6)
    shards = [stream(10, shard_index=i, shard_count=2) for i in range(2)]
    parts = [labels(shard, 3) for shard in shards]
    np.testing.assert_array_equal(np.stack(parts, axis=-1).reshape(3, 4), whole[:3])
    assert shards[0].get_state() == shards[1].get_state()
    one = stream(10)
    one.set_state(shards[1].get_state())
    np.testing.assert_array_equal(labels(one, 3), whole[3:])


def test_workers_do_not_change_the_stream(data_dir):
    records = pipeline.source("digits", data_dir, "train")
    options = {"batch_size": 8, "seed": 3, "channels": 3}
    threads = pipeline.batches(records, **options)
    workers = pipeline.batches(records, **options, num_workers=1)
    try:
        for _ in range(3):
            want, got = next(threads), next(workers)
            np.testing.assert_array_equal(got["image"], want["image"])
            np.testing.assert_array_equal(got["label"], want["label"])
    finally:
        workers.close()


def test_batch_that_shards_cannot_share_is_refused():
    with pytest.raises(UserError, match=r"batch_size=4: .*multiple.* 3"):
        stream(10, shard_count=3)


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(UserError, match="channels=2: must be 1"):
        stream(10, channels=2)


def test_load_split_keeps_index_order(data_dir):
    records = pipeline.source("digits", data_dir, "test")
    images, classes = pipeline.load_split("digits", data_dir, "test", 3)
    assert images.shape == (297, 16, 16, 3)
    for i in (0, 1, 296):
        one = pipeline.decode(records[i], "RGB")
        np.testing.assert_array_equal(images[i], one["image"])
        assert classes[i] == one["label"]


def test_part_of_a_split_is_its_beginning(data_dir):
    whole, _ = pipeline.load_split("digits", data_dir, "test", 1)
    part, _ = pipeline.load_split("digits", data_dir, "test[:10]", 1)
    np.testing.assert_array_equal(part, whole[:10])


@pytest.mark.parametrize("name", ["digits", "lsun/bedroom", "no such name"])
def test_missing_data_set_says_how_to_make_it(tmp_path, name):
    (tmp_path / "digits" / "incomplete.ABCDEF_1.0.0").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        pipeline.source(name, tmp_path, "train")
    assert f"rad-jax prepare {name} --data_dir {tmp_path}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_split_names_those_there(data_dir):
    with pytest.raises(UserError, match=r"'validation'.*train, test"):
        pipeline.source("digits", data_dir, "validation")


def test_other_file_format_is_refused(copied):
    data_dir, folder = copied
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match="not in ArrayRecord format"):
        pipeline.source("digits", data_dir, "train")


@pytest.mark.parametrize("size", [None, 0, 70_000])
def test_missing_or_short_file_is_noticed_on_opening(copied, size):
    data_dir, folder = copied
    [file] = glob.glob(f"{folder}/digits-train*")
    if size is None:
        os.remove(file)
    else:
        os.truncate(file, size)
    with pytest.raises(UserError, match="is damaged"):
        pipeline.source("digits", data_dir, "train")


def test_empty_metadata_is_damage(copied):
    data_dir, folder = copied
    os.truncate(folder / "dataset_info.json", 0)
    with pytest.raises(UserError, match="damaged 'digits'"):
        pipeline.source("digits", data_dir, "train")
