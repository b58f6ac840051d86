"""`rad-jax convert` of files that would take all memory or time: one line, at once.

Each runs in a process of its own that has little of both.
"""

import json
import resource
import struct
import subprocess
import sys
import zipfile

import numpy as np

from tests.files.zips import with_long_numbers, write_long_directory
from tests.weight_files.pickles import (
    legacy,
    number,
    numbers,
    storage,
    tensor,
    text,
    zipped,
)

SECONDS = 20
"""Of the processor, the imports included."""

BYTES = 2**30
"""Of memory, beyond what the imports take."""

PROGRAM = """
import json, resource, sys
import rad_jax.convert.command
from rad_jax.cli.main import main
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
limit = now + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(str([main(arguments) for arguments in json.loads(sys.argv[2])]))
"""

MEBIBYTE = 2**20
PAIRS = b"](" + b"".join(b"](" + text(f"k{i}") + b"Ne" for i in range(9999)) + b"e"

NEST = b"]q\x01" + b"".join(
    b"0](" + b"h%c" % i * 2 + b"eq%c" % (i + 1) for i in range(1, 200)
)
"""Lists that hold the one before twice: as text, of 2**200 letters."""


def ordered_dicts(path):
    begin = PAIRS + b"\x85q\x01ccollections\nOrderedDict\nq\x02"
    zipped(path, b"\x80\x02" + begin + b"h\x02h\x01R0" * (MEBIBYTE // 6) + b".")


def ordered_dicts_that_stay(path):
    begin = b"]q\x03" + PAIRS + b"\x85q\x01ccollections\nOrderedDict\nq\x02"
    zipped(path, b"\x80\x02" + begin + b"h\x03h\x02h\x01Ra0" * 90_000 + b".")


def sizes_of_a_million(path):
    """A memoised tuple of a million numbers, in a hundred thousand tensors."""
    shape = b"(" + b"K\x01" * MEBIBYTE + b"tq\x01"
    begin = shape + storage() + b"q\x02ctorch._utils\n_rebuild_tensor_v2\nq\x03"
    call = b"h\x03(h\x02K\x00h\x01h\x01\x89}tR0"
    zipped(path, b"\x80\x02" + begin + call * 100_000 + b".")


def parameters_of_a_million(path):
    """Of arguments that are not looked at: to go through them is the work."""
    begin = b"(" + b"N" * MEBIBYTE + b"tq\x01ctorch._utils\n_rebuild_parameter\nq\x03"
    zipped(path, b"\x80\x02" + begin + b"h\x03h\x01R0" * 100_000 + b".")


def names_of_a_million(path):
    begin = text("x" * MEBIBYTE) + b"q\x01"
    zipped(path, b"\x80\x04" + begin + b"h\x01h\x01\x93" * 100_000 + b".")


def a_long_storage(path):
    """As long as the name of a member can be, looked up again and again."""
    key = "x" * 65_000
    begin = text(key) + b"q\x01ctorch\nFloatStorage\nq\x02"
    pid = b"(" + text("storage") + b"h\x02h\x01" + text("cpu") + b"K\x04tQ0"
    program = b"\x80\x02" + begin + pid * 50_000 + b"."
    zipped(path, program, **{f"data/{key}": bytes(16)})


def keys_of_a_million(path):
    """In many dictionaries, each of which may be the network's."""
    begin = tensor() + b"q\x01" + text("x" * MEBIBYTE) + b"q\x02]q\x03"
    one = b"}h\x02h\x01sa"
    zipped(path, b"\x80\x02" + begin + one * 100_000 + b".")


def nested_key(path):
    zipped(path, b"\x80\x02}" + NEST + tensor() + b"s.")


def nested_storage(path):
    pid = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + NEST
    zipped(path, b"\x80\x02" + pid + text("cpu") + b"K\x00tQ.")


def views_of_one_storage(path):
    """A thousand arrays of a mebibyte, in a file of one."""
    data = np.zeros(2**18, np.float32)
    where = storage(count=data.size)
    view = tensor(number(0), numbers(2**18), numbers(1), where)
    names = ["time_embed.0.weight", "input_blocks.0.0.weight", *map(str, range(998))]
    items = b"".join(text(name) + view for name in names)
    zipped(path, b"\x80\x02}(" + items + b"u.", **{"data/0": data.tobytes()})


def many_networks(path):
    """Prefixes that each would have to be compared with all keys."""
    names = [
        f"m{i}.{key}"
        for i in range(30_000)
        for key in ("time_embed.0.weight", "input_blocks.0.0.weight")
    ]
    begin = tensor() + b"q\x010}("
    items = b"".join(text(name) + b"h\x01" for name in names)
    zipped(path, b"\x80\x02" + begin + items + b"u.")


def many_empty_lists(path):
    zipped(path, b"\x80\x02" + b"]" * 7 * MEBIBYTE + b".")


def memo_in_legacy(path):
    begin = b"(" + b"N" * 99_999 + b"tq\x01ctorch\nSize\nq\x02"
    legacy(path, b"\x80\x02" + begin + b"h\x02h\x01R0" * 100_000 + b".")


def directory(path, change):
    """A zip archive; ``change`` edits its bytes."""
    zipped(path, b"\x80\x02}.")
    path.write_bytes(change(path.read_bytes()))


def offset_of_2_63(path):
    directory(path, lambda data: with_long_numbers(data, 16, 16, 2**63))


def size_of_2_63(path):
    directory(path, lambda data: with_long_numbers(data, 2**63, 2**63, 0))


def short_extra(path):
    def change(data):
        data = bytearray(with_long_numbers(data, 16, 16, 0))
        at = data.rindex(struct.pack("<HH", 1, 24))
        data[at + 2] = 8
        return data

    directory(path, change)


def extra_fields(path):
    """Many tiny ones in each entry, in which zipfile goes back to the start."""
    extra = struct.pack("<HH", 7, 0) * 16383
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(200):
            info = zipfile.ZipInfo(f"x/{i}")
            info.extra = extra
            archive.writestr(info, b"")


def safetensors(path, header, length=None):
    size = struct.pack("<Q", len(header) if length is None else length)
    path.write_bytes(size + header + bytes(64))


def long_header(path):
    safetensors(path, b"{" + b" " * 2**26)


def deep_header(path):
    safetensors(path, b'{"a":' * 10**6)


REPEATS = "has a pickle that builds far more than it holds: refused"
DAMAGED = "is a damaged zip archive, perhaps cut short; get the file again ("
FILES = {
    ordered_dicts: REPEATS,
    ordered_dicts_that_stay: REPEATS,
    sizes_of_a_million: "has an array whose shape makes no sense",
    parameters_of_a_million: REPEATS,
    names_of_a_million: REPEATS,
    a_long_storage: REPEATS,
    keys_of_a_million: "holds no state dict",
    nested_key: "has a dictionary whose keys are not names",
    nested_storage: "has a storage of an unknown kind",
    views_of_one_storage: "has arrays of 1048576000 bytes in ",
    many_networks: "has the weights of more than 100 networks",
    many_empty_lists: "holds no state dict",
    memo_in_legacy: REPEATS,
    offset_of_2_63: f"{DAMAGED}a member lies outside of the file)",
    size_of_2_63: f"{DAMAGED}a member lies outside of the file)",
    short_extra: f"{DAMAGED}an extra field is damaged)",
    write_long_directory: f"{DAMAGED}its directory is longer than 16777216 bytes)",
    extra_fields: "is a zip archive, but not one of weights",
    long_header: "is damaged or cut short (a header of 67108865 bytes)",
    deep_header: "is damaged or cut short (",
}


def test_files_that_would_take_all_there_is(tmp_path):
    """In one process: the imports take most of the time."""
    commands, lines = [], []
    for make, match in FILES.items():
        path = tmp_path / f"{make.__name__}.pt"
        make(path)
        flags = ["--input", str(path), "--output", str(tmp_path / "m")]
        commands.append(["convert", *flags, "--preset", "ffhq256"])
        lines.append(f"rad-jax: {path}: {match}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(BYTES), json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    *said, codes = done.stderr.splitlines()
    assert len(said) == len(lines), done.stderr[-3000:]
    pairs = list(zip(said, lines, strict=True))
    assert not [pair for pair in pairs if not pair[0].startswith(pair[1])]
    assert all(len(line) < 400 and line.isprintable() for line in said)
    assert codes == str([2] * len(commands))
    assert now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime < SECONDS
    assert not (tmp_path / "m").exists()


def test_sharing_a_few_times_is_no_attack(tmp_path, rad):
    """Weights that are tied: seven arrays of one storage."""
    data = np.zeros(2**10, np.float32)
    where = storage(count=data.size)
    view = tensor(number(0), numbers(2**10), numbers(1), where)
    path = tmp_path / "b.pt"
    program = b"\x80\x02}" + b"".join(text(f"{i}.bias") + view + b"s" for i in range(7))
    zipped(path, program + b".", **{"data/0": data.tobytes()})
    code, _, err = rad("convert", "--input", path, "--output", tmp_path / "m")
    assert code == 2 and "is of no network that can be converted" in err[0]
