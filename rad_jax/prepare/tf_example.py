"""Writes the messages ``tf.train.Example`` that TFDS keeps examples in.

Names are sorted: the same example gives the same bytes. In Protocol Buffers'
deterministic serialisation these depend on its implementation where one name begins
another; and the message's class comes with TFDS alone, which every worker process would
have to import, or from descriptors that take more lines than this module.
"""

from collections.abc import Mapping

# A field starts with its number and its kind; all of ours are of bytes, of a length.
_LENGTH_DELIMITED = 2


def encode_example(features: Mapping[str, bytes | int]) -> bytes:
    """One example.

    Args:
        features: bytes, or integers from 0 to 2**63 - 1, by name.
    """
    entries = (
        _field(1, _field(1, name.encode()) + _field(2, _feature(features[name])))
        for name in sorted(features)
    )
    return _field(1, b"".join(entries))


def _feature(value: bytes | int) -> bytes:
    """A list of one element: of bytes (field 1), or of integers (field 3)."""
    if isinstance(value, bytes):
        return _field(1, _field(1, value))
    return _field(3, _field(1, _varint(value)))


def _field(number: int, content: bytes) -> bytes:
    key = _varint(number << 3 | _LENGTH_DELIMITED)
    return key + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits at a time, the lowest first; the eighth says that more follow."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
