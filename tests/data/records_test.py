import contextlib
import glob
import io
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from rad_jax.data import sources
from rad_jax.data.examples import ToExample
from rad_jax.data.pipeline import batches
from rad_jax.data.records import source
from rad_jax.errors import UserError

SIZES = [(20, 30), (16, 16), (50, 17), (33, 33), (64, 40)]  # width, height


def jpeg(i):
    """A picture whose grey level tells its index, which JPEG keeps."""
    file = io.BytesIO()
    Image.new("RGB", SIZES[i], (40 * i, 40 * i, 40 * i)).save(file, "JPEG")
    return file.getvalue()


class Scenes(tfds.core.GeneratorBasedBuilder):
    """Like TFDS's own sets: pictures of many sizes, classes, and more."""

    VERSION = tfds.core.Version("2.1.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="street")]  # noqa: RUF012

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
            "file_name": tfds.features.Text(),
            "boxes": tfds.features.Sequence(tfds.features.BBoxFeature()),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(len(SIZES)):
            yield (
                i,
                {
                    "image": jpeg(i),
                    "label": i % 3,
                    "file_name": f"{i}.jpg",
                    "boxes": [tfds.features.BBox(0.0, 0.0, 1.0, 0.5)] * i,
                },
            )


class Words(tfds.core.GeneratorBasedBuilder):
    """No pictures."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"text": "word"}


@pytest.fixture(scope="module")
def photos_dir(tmp_path_factory):
    """Folder of data sets that TFDS itself has written."""
    folder = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        for builder in (Scenes, Words):
            builder(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture
def copied(digits_dir, tmp_path):
    """A data set that a test may damage: its folder of folders, and its own."""
    shutil.copytree(digits_dir, tmp_path, dirs_exist_ok=True)
    return tmp_path, tmp_path / "digits" / "1.0.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of 10 x 8 pixels whose grey level is their number."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(20):
        Image.new("RGB", (10, 8), (i, i, i)).save(folder / f"{i:02}.png")
    return folder


def test_data_set_that_tfds_wrote_is_read_as_it_is(photos_dir):
    records = source("scenes/street", photos_dir, "train")
    assert len(records) == len(SIZES)
    seen = set()
    for record in records:
        # Anything else would have been decoded.
        assert set(record) == {"image", "label", "name", "data_set"}
        with Image.open(io.BytesIO(record["image"])) as image:
            i = SIZES.index(image.size)
        assert record["image"] == jpeg(i)
        assert record["label"] == i % 3
        seen.add(i)
    assert seen == set(range(len(SIZES)))
    assert records[3]["name"] == "example 3 of scenes train"


def test_its_images_of_any_size_become_batches(photos_dir):
    records = source("scenes/street:2.1.0", photos_dir, "train")
    batch = next(batches(records, ToExample(3, 16), batch_size=5, seed=0))
    assert batch["image"].shape == (5, 16, 16, 3)
    means = np.round(batch["image"].mean(axis=(1, 2, 3)) / 40).astype(int)
    assert sorted(means) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(batch["label"], means % 3)


def test_records_can_be_sent_to_a_process(photos_dir, folder):
    for records in (
        source("scenes/street", photos_dir, "train[1:]"),
        source("folder", folder, "train"),
    ):
        copy = pickle.loads(pickle.dumps(records))
        assert len(copy) == len(records)
        assert [*copy] == [*records]


def test_data_set_without_images_is_refused(photos_dir):
    with pytest.raises(UserError, match=r"1\.0\.0: has no images; it has text"):
        source("words", photos_dir, "train")


def test_empty_part_is_refused(photos_dir, folder, tmp_path):
    with pytest.raises(UserError, match=r"no split 'train\[2:2\]'"):
        source("scenes/street", photos_dir, "train[2:2]")
    with pytest.raises(UserError, match=r"holds nothing in 'train\[2:2\]'"):
        source("folder", folder, "train[2:2]")
    shutil.copy(folder / "00.png", tmp_path)
    with pytest.raises(UserError, match="holds nothing in 'validation'"):
        source("folder", tmp_path, "validation")


@pytest.mark.parametrize("name", ["digits", "lsun/bedroom", "no such name"])
def test_missing_data_set_says_how_to_make_it(tmp_path, name):
    (tmp_path / "digits" / "incomplete.ABCDEF_1.0.0").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        source(name, tmp_path, "train")
    assert f"rad-jax prepare {name} --data_dir {tmp_path}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_split_names_those_there(digits_dir, folder):
    with pytest.raises(UserError, match=r"'validation'.*train, test"):
        source("digits", digits_dir, "validation")
    with pytest.raises(UserError, match=r"'test'.*train, validation"):
        source("folder", folder, "test")


def test_other_file_format_is_refused(copied):
    data_dir, folder = copied
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match="not in ArrayRecord format"):
        source("digits", data_dir, "train")


@pytest.mark.parametrize("size", [None, 0, 70_000])
def test_missing_or_short_file_is_noticed_on_opening(copied, size):
    data_dir, folder = copied
    [file] = glob.glob(f"{folder}/digits-train*")
    if size is None:
        os.remove(file)
    else:
        os.truncate(file, size)
    with pytest.raises(UserError, match="is damaged"):
        source("digits", data_dir, "train")


def test_damage_inside_a_file_is_one_line_when_it_is_read(copied):
    data_dir, folder = copied
    [file] = glob.glob(f"{folder}/digits-train*")
    records = source("digits", data_dir, "train")
    with open(file, "r+b") as opened:
        opened.seek(os.path.getsize(file) // 2)
        opened.write(bytes(70_000))
    with pytest.raises(UserError, match=r"1\.0\.0: is damaged") as caught:
        for i in range(len(records)):
            records[i]
    assert "\n" not in str(caught.value)


def test_empty_metadata_is_damage(copied):
    data_dir, folder = copied
    os.truncate(folder / "dataset_info.json", 0)
    with pytest.raises(UserError, match="damaged 'digits'"):
        source("digits", data_dir, "train")


def numbers(records):
    found = []
    for record in records:
        with Image.open(io.BytesIO(record["image"])) as image:
            found.append(np.asarray(image)[0, 0, 0])
    return found


def test_folder_is_split_as_prepare_splits_it(folder):
    parts = sources.split_indices(20)
    for split, ids in parts.items():
        assert numbers(source("folder", folder, split)) == ids.tolist()
    train = parts["train"].tolist()
    assert numbers(source("folder", folder, "train[:5]")) == train[:5]
    assert numbers(source("folder", folder, "train[50%:]")) == train[9:]
    both = source("folder", folder, "train+validation")
    assert sorted(numbers(both)) == list(range(20))


def test_zip_is_read_like_the_folder(folder, tmp_path):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    records = source("folder", path, "train")
    assert numbers(records) == numbers(source("folder", folder, "train"))
    assert records[0]["name"].startswith(f"{path}/")


def test_file_that_is_gone_or_broken_is_named(folder, tmp_path):
    for file in folder.iterdir():
        shutil.copy(file, tmp_path)
    records = source("folder", tmp_path, "train")
    broken, gone = (records[i]["name"] for i in (0, 1))
    os.truncate(broken, 40)
    os.remove(gone)
    it = batches(records, ToExample(3, 8), batch_size=len(records), seed=0)
    with pytest.raises(UserError, match=rf"^({broken}|{gone}): ") as caught:
        next(it)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=rf"^{gone}: "):
        records[1]
    os.symlink(tmp_path / "nowhere", gone)
    with pytest.raises(UserError, match=rf"^{gone}: broken symlink; take it out"):
        records[1]
