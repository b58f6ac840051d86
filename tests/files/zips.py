"""Zip archives that are changed by hand."""

import struct


def with_long_numbers(data, *values):
    """Size, size in the archive and offset of the last member, of 64 bits."""
    data = bytearray(data)
    entry = data.rindex(b"PK\1\2")
    for at in (24, 20, 42):
        data[entry + at : entry + at + 4] = b"\xff" * 4
    (name,) = struct.unpack_from("<H", data, entry + 28)
    extra = struct.pack("<HHQQQ", 1, 24, *values)
    data[entry + 30 : entry + 32] = struct.pack("<H", len(extra))
    place = entry + 46 + name
    data[place:place] = extra
    end = data.rindex(b"PK\5\6")
    data[end + 12 : end + 16] = struct.pack("<L", end - data.index(b"PK\1\2"))
    return bytes(data)


def write_long_directory(path):
    """Four gigabytes of directory, in a file of four gigabytes that has holes."""
    size = 2**32 - 2**16
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, size, 4, 0)
    with path.open("wb") as file:
        file.write(b"PK\3\4")
        file.truncate(4 + size)
        file.seek(0, 2)
        file.write(end)
