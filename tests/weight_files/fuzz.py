"""Files of weights and archives made at random, and what their readers say of them.

    python -m tests.weight_files.fuzz --minutes 60

goes on with new seeds as long as that; the fast tests run a few hundred cases of the
first seed. A case fails if a reader raises anything but `UserError`, says more than a
line, takes seconds, or takes memory that its file does not account for.
"""

import argparse
import json
import math
import os
import resource
import signal
import struct
import tempfile
import time
import zipfile
from pathlib import Path

import hypothesis
import numpy as np
from flax import serialization
from hypothesis import HealthCheck
from hypothesis import strategies as st

from rad_jax.convert import infer
from rad_jax.data.sources import open_images
from rad_jax.errors import UserError
from rad_jax.weight_files import score_sde
from rad_jax.weight_files.lazy_array import MAX_REPEATED
from rad_jax.weight_files.network import read_network
from rad_jax.weight_files.read import read_state_dict
from rad_jax.weight_files.write import write_safetensors, write_torch
from tests.weight_files.pickles import (
    legacy,
    legacy_tensor,
    named,
    number,
    numbers,
    saved,
    storage,
    tensor,
    text,
    zipped,
)

MARKERS = (*infer.MARKERS, *score_sde.MARKERS)

SECONDS = 5
"""Of the processor, for a case; most take a thousandth of one."""

BYTES = 2**28
"""Of memory, beyond what the imports take."""


class Hang(BaseException):
    """A case took too long."""


def check(path, data):
    """Reads a file in every way that there is."""
    path.write_bytes(data)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        for read in (
            lambda: read_state_dict(path),
            lambda: read_network(path, MARKERS).arrays,
            lambda: read_network(path, MARKERS, "model").arrays,
        ):
            _told(lambda read=read: _look_at(read(), len(data)))
        _told(lambda: _look_at_images(path))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _told(run):
    try:
        run()
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 2000, error


def _look_at(arrays, size):
    total = 0
    for array in arrays.values():
        total += array.nbytes
        array.tobytes()
    assert total <= MAX_REPEATED * size


def _look_at_images(path):
    images = open_images(path)
    for i in range(len(images.names)):
        _told(lambda i=i: images.read(i))


# Pickles, of opcodes that mostly fit together.

NAMES = [
    *("w", "model", "ema", "state_dict", "module.w", "_orig_mod.x", "\x1b", "x" * 600),
    *(key for keys in MARKERS for key in keys),
    *(f"model.{key}" for keys in MARKERS for key in keys),
]
GLOBALS = [
    *("collections\nOrderedDict", "torch\nSize", "torch._utils\n_rebuild_parameter"),
    *("torch._utils\n_rebuild_tensor_v2", "torch\nFloatStorage", "torch\nBoolStorage"),
    *("argparse\nNamespace", "numpy\ndtype", "builtins\nset", "__torch__.x\nY"),
    *("os\nsystem", "a.b\nC.d"),
]
SINGLE = b"(0.12N}])]tlsuabeQRo\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94"
COUNTS = [0, 1, 2, 4, 5, 2**31, 2**48, 2**63, -1]

MEMO = [
    *(b"]", b"}", b")", text("a"), number(2), b"cargparse\nNamespace\n"),
    *(b"ctorch\nSize\n", b"ccollections\nOrderedDict\n", b"]K\x01a\x85", b"](NNNe"),
]
"""What the memo has at first, so that to ask it is no mistake."""

indices = st.integers(0, len(MEMO) - 1)
gets = st.builds(lambda i: b"h%c" % i, indices)
raw = st.one_of(
    st.sampled_from([bytes([code]) for code in SINGLE]),
    st.builds(lambda i: b"q%c" % i, indices),
    gets,
    st.sampled_from([b"c" + name.encode() + b"\n" for name in GLOBALS]),
    st.sampled_from([b"(i" + name.encode() + b"\n" for name in GLOBALS]),
    st.sampled_from([text(name) for name in NAMES]),
    st.sampled_from([number(value) for value in COUNTS]),
    st.binary(max_size=4),
)


def _sequence(opener, items, closer):
    return opener + b"(" + b"".join(items) + closer


def _repeated(program, count):
    """So often, but no longer than some kilobytes."""
    return program * min(count, 1 + 2**14 // len(program or b"."))


def _containers(values):
    names = st.sampled_from([text(name) for name in NAMES])
    pairs = st.builds(lambda name, value: name + value, names, values)
    makers = st.sampled_from([b"c" + name.encode() + b"\n" for name in GLOBALS[:-2]])
    lists = st.lists(values, max_size=6)
    return st.one_of(
        st.builds(lambda x: _sequence(b"}", x, b"u"), st.lists(pairs, max_size=6)),
        st.builds(lambda x: _sequence(b"]", x, b"e"), lists),
        st.builds(lambda x: _sequence(b"", x, b"t"), lists),
        st.builds(lambda x, i: x + b"q%c" % i, values, indices),
        st.builds(lambda x, y: b"cx\nY\n" + x + b"\x85\x81" + y + b"b", values, values),
        st.builds(lambda x: b"c__torch__.x\nY\n)\x81" + x + b"b", values),
        st.builds(lambda make, x: make + _sequence(b"", x, b"tR"), makers, lists),
        # The same again and again, of which each time nothing stays.
        st.builds(lambda x, y, n: _repeated(x + b"0", n) + y, values, values, COUNT),
    )


COUNT = st.sampled_from([1, 50, 3000])


def _tensors(extra):
    """Of the storage that there is, and of others; most of them fit."""
    fitting = [
        tensor(number(offset), numbers(*shape), numbers(*strides), storage(extra=extra))
        for offset, shape, strides in (
            *((0, (2, 2), (2, 1)), (0, (4,), (1,)), (3, (), ()), (0, (0, 9), (9, 1))),
            (1, (3, 1), (1, 0)),
        )
    ]
    sizes = st.lists(st.sampled_from(COUNTS), max_size=4).map(lambda x: numbers(*x))
    where = st.builds(
        lambda key, count: storage(key, count, extra=extra),
        st.sampled_from(["0", "0", "1", "../0"]),
        st.sampled_from([4, 4, *COUNTS]),
    )
    offsets = st.sampled_from(COUNTS).map(number)
    others = st.builds(tensor, offsets, sizes, sizes, where)
    return st.one_of(*[st.sampled_from(fitting)] * 4, others)


def programs(extra):
    """Pickles; ``extra`` ends what they say of a storage."""
    leaves = st.one_of(
        *[_tensors(extra)] * 3,
        gets,
        st.sampled_from([b"N", b"}", b"]", b")", b"\x88", text("a"), number(7)]),
    )
    values = st.recursive(leaves, _containers, max_leaves=12)
    names = st.sampled_from([text(name) for name in NAMES])
    trees = st.dictionaries(names, values, max_size=8).map(
        lambda x: _sequence(b"}", [name + value for name, value in x.items()], b"u")
    )
    begin = b"".join(value + b"q%c0" % i for i, value in enumerate(MEMO))
    return st.one_of(
        trees,
        trees,
        values,
        st.lists(st.one_of(values, values, raw), max_size=12).map(b"".join),
        st.builds(lambda x, y, n: x + _repeated(y, n), values, raw, COUNT),
    ).map(lambda program: b"\x80\x02" + begin + program + b".")


# Edits of files.

PATCHES = st.one_of(
    st.binary(min_size=1, max_size=8),
    *(
        st.sampled_from(
            [0, 1, 22, 46, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
        ).map(lambda n, size=size: (n % 256**size).to_bytes(size, "little"))
        for size in (2, 4, 8)
    ),
)
MARKS = [b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"\1\0\x18\0", b"\x93"]


@st.composite
def edited(draw, files):
    """A file with a few changes, many of them in the numbers of a zip's directory."""
    data = draw(st.sampled_from(files))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        if draw(st.booleans()):
            found = data.find(draw(st.sampled_from(MARKS)), at)
            at = max(found, 0) + draw(st.integers(4, 56))
        kind = draw(st.sampled_from(["put", "put", "put", "insert", "cut", "double"]))
        if kind == "cut":
            data = data[:at] + data[at + draw(st.integers(0, 64)) :]
        elif kind == "double":
            data = data[:at] + data[at // 2 : at] + data[at:]
        else:
            patch = draw(PATCHES)
            data = data[:at] + patch + data[at + len(patch) * (kind == "put") :]
    return data


@st.composite
def headers(draw):
    """A safetensors file whose header is made of what it might hold."""
    header, end = {}, 0
    for key in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=6)):
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        size = 4 * math.prod(shape)
        offsets = [end, end + size]
        header[key] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        end += size
    odd = st.sampled_from([0, 1, -1, 2**63, 2**64, 1.5, None, "1", [], {}, [[[]]]])
    if header and draw(st.booleans()):
        entry = header[draw(st.sampled_from(list(header)))]
        field = draw(st.sampled_from(list(entry)))
        kinds = st.sampled_from(["BF16", "I64", "F8_E4M3", "F4", "x" * 999])
        entry[field] = draw(st.one_of(odd, kinds, st.lists(odd, max_size=4)))
    if draw(st.booleans()):
        header["__metadata__"] = draw(st.sampled_from([{}, {"a": "b"}, {"a": 1}, 7]))
    content = json.dumps(header).encode()
    length = draw(st.sampled_from([len(content)] * 9 + [0, 1, 2**25, 2**63]))
    return struct.pack("<Q", length) + content + bytes(end)


def strategies(folder):
    """By name; the files that are edited are made in a folder."""
    scratch = folder / "scratch"

    def in_zip(program):
        return zipped(scratch, program).read_bytes()

    def in_legacy(program):
        return legacy(scratch, program).read_bytes()

    files = list(_intact(scratch))
    return {
        "pickles in zip": programs(b"").map(in_zip),
        "pickles in legacy files": programs(b"N").map(in_legacy),
        "edited files": edited(files),
        "safetensors": headers(),
    }


def _intact(path):
    state = {
        "time_embedding.linear_1.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
        "b": np.ones(3, np.float16),
    }
    write_torch(path, state)
    yield path.read_bytes()
    write_safetensors(path, state)
    yield path.read_bytes()
    np.savez(path.with_suffix(".npz"), **state)
    yield path.with_suffix(".npz").read_bytes()
    yield saved(path, {"model": state, "ema": state}).read_bytes()
    yield legacy(path, named(legacy_tensor())).read_bytes()
    weights = {"all_modules.0.weight": state["b"], "sigmas": state["b"]}
    averages = {"shadow_params": [state["b"]]}
    yield saved(path, {"model": weights, "ema": averages}).read_bytes()
    net = {"Conv_0": {"kernel": state["b"]}, "Dense_0": {"kernel": state["b"]}}
    yield serialization.to_bytes({"optimizer": {"target": net}, "params_ema": net})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", b"1" * 100)
        with archive.open("2.png", "w", force_zip64=True) as member:
            member.write(b"2" * 50)
        archive.comment = b"comment"
    yield path.read_bytes()


def run(name, strategy, path, cases, seed):
    """Checks so many cases of a strategy; the first that fails is made small."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=cases,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )
    @hypothesis.given(data=strategy)
    def test(data):
        try:
            check(path, data)
        except MemoryError as error:
            raise AssertionError(f"{name}: memory") from error

    test()


def main():
    """Runs the strategies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=500, help="of each strategy")
    parser.add_argument("--minutes", type=float, default=0, help="go on with new seeds")
    args = parser.parse_args()

    def stop(*_):
        raise Hang(f"a case took more than {SECONDS} s")

    signal.signal(signal.SIGPROF, stop)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    begun, seed = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.pt")
        found = strategies(Path(folder))
        while True:
            for name, strategy in found.items():
                run(name, strategy, path, args.cases, seed)
            seed += 1
            minutes = (time.monotonic() - begun) / 60
            if minutes >= args.minutes:
                break
    cases = args.cases * len(found) * seed
    seconds = sum(os.times()[:2])
    print(f"{cases} cases of {seed} seeds, {seconds:.0f} s of the processor: no fault")


if __name__ == "__main__":
    main()
