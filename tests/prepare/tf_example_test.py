"""What Google's own code makes of our bytes."""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tensorflow_datasets.proto import tf_example_generated_pb2 as tf_example

from rad_jax.prepare.tf_example import encode_example

Example: Any = getattr(tf_example, "Example")  # noqa: B009 (made at run time)

FEATURES: Any = tfds.features.FeaturesDict(
    {
        "image": tfds.features.Image(shape=(1, 1, 3)),
        "id": tfds.features.Text(),
        "label": tfds.features.ClassLabel(num_classes=1000),
    }
)


def examples():
    for length in (0, 1, 127, 128, 16_383, 16_384, 3_000_000):
        yield {"image": bytes(length % 251 for _ in range(length)), "id": b"a/b.png"}
    for label in (0, 1, 127, 128, 300, 2**40, 2**63 - 1):
        yield {"image": b"\x00\xff", "id": "ä".encode(), "label": label}


def test_protocol_buffers_reads_what_was_written():
    for example in examples():
        read = Example.FromString(encode_example(example))
        assert set(read.features.feature) == set(example)
        for name, value in example.items():
            feature = read.features.feature[name]
            values = (feature.bytes_list, feature.int64_list)[isinstance(value, int)]
            assert list(values.value) == [value]


def test_it_is_the_message_that_tfds_writes():
    specs = FEATURES.get_serialized_info()
    for label in (0, 999):
        example = {"image": b"png" * 100, "id": b"x", "label": np.int64(label)}
        theirs = ExampleSerializer(specs).get_tf_example(example)
        ours = encode_example({**example, "label": label})
        assert Example.FromString(ours) == theirs
        assert len(ours) == theirs.ByteSize()


def test_order_of_the_features_does_not_matter():
    one = encode_example({"a": 1, "b": b"2"})
    assert encode_example({"b": b"2", "a": 1}) == one
