"""What jobs of many pictures reach, and what a million would take, as Markdown."""

from collections.abc import Mapping
from typing import Any

from benchmarks.chip_tables import BUILT, COMMAND
from benchmarks.prose import filled, source_of
from rad_jax.jobs.bucket_journal import MOST_ROWS

Record = Mapping[str, Any]

BATCH = "python benchmarks/batch_inpainting.py"
MILLION = "python benchmarks/million.py"
REQUESTS = "python benchmarks/bucket_requests.py"

PICTURES = 1_000_000
GPUS = (8, 64, 512)
STEPS = (100, 20)

SHARES = (1.0, 0.5)
"""Of the roofline: the bound, and what is assumed beside it."""


def rate_text(record: Record | None) -> str:
    """The command's rate beside that of decoding and encoding alone."""
    if record is None:
        return f"Not measured yet (`{BATCH}`)."
    rates, shares = record["images_per_second"], record["share_of_alone"]
    best = record["better_alone"]
    before = ""
    if "before" in shares:
        before = (
            f" Before reading, filling and writing ran beside each other it filled "
            f"{rates['before']:.0f} ({shares['before']:.0%})."
        )
    return filled(
        f"With a stand-in for a network that takes "
        f"{record['milliseconds_of_the_network']} ms an image and no core, the command "
        f"fills {rates['command']:.0f} pictures of 256x256 a second "
        f"({record['images']} PNG files); decoding and encoding alone, by Pillow in "
        f"{record['cores']} {best}, reach {rates[best]:.0f}: {shares['command']:.0%}. "
        f"The device idles {record['idle_share']:.0%}, for the cores are too few."
        f"{before} {source_of(record)}"
    )


def million_text(record: Record | None) -> str:
    """A million small pictures."""
    if record is None:
        return f"Not measured yet (`{MILLION}`)."
    lines = [
        "| a million ids in | first picture after, s | memory of a worker at most, MiB "
        "| in an early and in the last eighth | minutes in all | rows, ids |",
        "|---|---|---|---|---|---|",
    ]
    for form, row in record.items():
        early, late = (
            max(row[name])
            for name in ("mib_in_the_second_eighth", "mib_in_the_last_eighth")
        )
        lines.append(
            f"| {form} | {max(row['first_image_seconds']):.1f} "
            f"| {max(row['peak_mib']):.0f} | {early:.0f}, {late:.0f} "
            f"| {row['seconds'] / 60:.1f} | {row['rows']:,}, {row['ids']:,} |"
        )
    some = next(iter(record.values()))
    imports = max(max(row["seconds_to_import"]) for row in record.values())
    workers = len(some["peak_mib"])
    text = (
        f"{workers} workers at once on one machine; of theirs each number is the "
        f"worst. Pictures have 28x28 pixels, a stand-in for the network takes no time. "
        f"Of the seconds to the first picture {imports:.1f} pass while {workers} "
        f"processes import JAX. {source_of(some)}"
    )
    return "\n".join([*lines, "", filled(text)])


def paper_text(
    batch: Record | None,
    requests: Record | None,
    program: Record | None,
) -> str:
    """A million pictures on GPUs that nobody has run it on."""
    if batch is None or requests is None or program is None:
        missing = [
            command
            for command, record in (
                (BATCH, batch),
                (REQUESTS, requests),
                (COMMAND, program),
            )
            if record is None
        ]
        return f"Not computed yet (`{'`, `'.join(missing)}`)."
    fills = [
        row
        for row in program["rows"]
        if row["change"] == BUILT
        and (row["program"], row["config"]) == ("fill", "ffhq256")
    ]
    step = max(fills, key=lambda row: row["batch"])
    flop, traffic, roof = (
        step[name] / step["batch"]
        for name in ("flops_of_the_network", "step_main", "roofline_seconds")
    )
    cpu = batch["cpu_seconds_per_image"]["command"]
    shard = requests["pictures_of_a_shard"]
    lines = [
        f"| GPUs | steps | at the roofline | at {SHARES[1]:.0%} of it "
        f"| cores a GPU needs at {SHARES[1]:.0%} | a lost worker costs at most |",
        "|---|---|---|---|---|---|",
    ]
    for gpus in GPUS:
        for steps in STEPS:
            bound, assumed = (steps * roof / share for share in SHARES)
            times = [_time(PICTURES * x / gpus) for x in (bound, assumed)]
            lines.append(
                f"| {gpus} | {steps} | {' | '.join(times)} | {cpu / assumed:.2g} "
                f"| {_time(shard * assumed)} of a GPU |"
            )
    sizes = batch["mean_bytes"]
    read = PICTURES * (sizes["images"] + sizes["masks"]) / 1e9
    written = PICTURES * sizes["results"] / 1e9
    shards, files = (
        {verb: units * requests[kind]["each"][verb] for verb in ("read", "write")}
        for kind, units in (("shards", PICTURES // shard), ("files", PICTURES))
    )
    text = (
        f"On paper, not run: the roofline of the FFHQ-256 network in bfloat16 on an "
        f"H100, kernel after kernel of the compiled program in batches of "
        f"{step['batch']} (`{COMMAND}`): {1000 * roof:.2f} ms an evaluation, of "
        f"{flop / 1e9:.0f} GFLOP and {traffic / 1e9:.2f} GB. {SHARES[1]:.0%} of it is "
        f"an assumption. A picture takes {1000 * cpu:.1f} ms of a core (measured, "
        f"`{BATCH}`). To start, load and compile comes on top: minutes, which make "
        f"{GPUS[-1]} GPUs too many for one such job."
    )
    mb = requests["mb_of_a_shard"]
    bucket = (
        f"A million such pictures and masks are {read:.0f} GB to read, the results "
        f"{written:.0f} GB to write. Shards of {shard:,} ({mb:.0f} MB) take "
        f"{shards['read']:,.0f} requests that read and {shards['write']:,.0f} that "
        f"write; one by one it is {files['read']:,.0f} and {files['write']:,.0f}, by "
        f"the count of a stand-in for the bucket. A lost worker costs the shard that "
        f"it was at; of a folder's pictures those on their way, of a bucket's at most "
        f"{MOST_ROWS:,}. {source_of(requests)}"
    )
    return "\n".join([*lines, "", filled(text), "", filled(bucket)])


def _time(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"
