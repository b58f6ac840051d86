"""What is said of jobs of many pictures, from records that are known."""

from benchmarks import scale_tables

MEASURED = {"command": "python x.py", "hardware": "2 CPU cores (A)", "date": "2026-1-1"}

BATCH = {
    "measured": MEASURED,
    "cpu_seconds_per_image": {"command": 0.05},
    "mean_bytes": {"images": 90_000, "masks": 10_000, "results": 200_000},
}
REQUESTS = {
    "measured": MEASURED,
    "pictures_of_a_shard": 1000,
    "mb_of_a_shard": 100,
    "shards": {"each": {"read": 3.0, "write": 2.0}},
    "files": {"each": {"read": 2.0, "write": 1.0}},
}
# An evaluation of two takes an H100 two milliseconds.
STEP = {
    "program": "fill",
    "config": "ffhq256",
    "batch": 2,
    "change": "as it is built",
    "roofline_seconds": 0.002,
    "flops_of_the_network": 1e12,
    "step_main": 6e9,
}
OTHERS = [STEP | {"batch": 1, "roofline_seconds": 1}, STEP | {"config": "imagenet256"}]
PROGRAM = {"rows": [STEP, *OTHERS]}


def test_hours_cores_bytes_and_requests_on_paper():
    text = scale_tables.paper_text(BATCH, REQUESTS, PROGRAM)
    lines = {tuple(x.split(" | ")[:2]): x for x in text.splitlines()}
    # 1e6 pictures of 0.1 s on 8 GPUs; at half of that 0.2 s each, so 1/4 of a core.
    row = lines["| 8", "100"]
    assert row == "| 8 | 100 | 3.5 h | 6.9 h | 0.25 | 3.3 min of a GPU |"
    assert lines["| 512", "20"].startswith("| 512 | 20 | 39 s | 1.3 min | 1.2 |")
    said = " ".join(text.split())
    assert "100 GB to read, the results 200 GB to write" in said
    assert "take 3,000 requests that read and 2,000 that write" in said
    assert "one by one it is 2,000,000 and 1,000,000" in said


def test_what_was_not_measured_is_named():
    assert "batch_inpainting.py`)" in scale_tables.rate_text(None)
    assert "million.py`)" in scale_tables.million_text(None)
    text = scale_tables.paper_text(None, None, PROGRAM)
    assert "batch_inpainting.py`, `python benchmarks/bucket_requests.py`)" in text
