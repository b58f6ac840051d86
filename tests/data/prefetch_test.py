import io
import threading
import time

import jax
import numpy as np
import pytest
from PIL import Image

from rad_jax.data import prefetch
from rad_jax.data.examples import ToExample
from rad_jax.data.pipeline import Batches, batches
from rad_jax.errors import UserError


def record(label):
    file = io.BytesIO()
    Image.new("L", (2, 2)).save(file, "PNG")
    data = file.getvalue()
    return {"image": data, "label": label, "name": "a.png", "data_set": "d"}


def stream():
    records = [record(i) for i in range(12)]
    return batches(records, ToExample(1, 2), batch_size=4, seed=0)


def place(batch):
    return jax.device_put(batch["label"])


@pytest.fixture
def prefetched():
    """Makes prefetching iterators that are closed at the end."""
    made = []

    def make(*arguments, **more):
        made.append(prefetch.Prefetch(*arguments, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Slow(Batches):
    """A pipeline whose batches come when the test lets them."""

    def __init__(self):
        self.allowed, self.made = threading.Semaphore(0), 0

    def __next__(self):
        assert self.allowed.acquire(timeout=10)
        self.made += 1
        return {"label": np.array(self.made)}

    def get_state(self):
        return {"global_next_index": self.made}

    def close(self):
        self.allowed.release(100)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_hands_out_the_batches_with_the_position_after_each(prefetched, depth):
    plain, ahead = stream(), prefetched(stream(), place, depth)
    assert ahead.position == {"global_next_index": 0}
    for _ in range(7):
        want, got = next(plain), next(ahead)
        assert isinstance(got, jax.Array)
        np.testing.assert_array_equal(got, want["label"])
        assert ahead.position == plain.get_state()


def test_position_resumes_with_the_batch_that_was_not_handed_out(prefetched):
    plain, ahead = stream(), prefetched(stream(), place)
    for _ in range(3):
        next(ahead)
        next(plain)
    resumed = stream()
    resumed.set_state(ahead.position)
    np.testing.assert_array_equal(next(resumed)["label"], next(plain)["label"])


def wait_until(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("not within 10 s")


def test_next_does_not_wait_for_batches_after_it(prefetched):
    slow = Slow()
    ahead = prefetched(slow, place, 2)
    slow.allowed.release(2)
    wait_until(lambda: slow.made == 2)
    # Two are there. The pipeline is stuck on a third, which nobody has asked for.
    assert [int(next(ahead)) for _ in range(2)] == [1, 2]
    assert slow.made == 2
    slow.close()


def test_keeps_as_many_ready_as_it_should(prefetched):
    slow = Slow()
    slow.allowed.release(100)
    ahead = prefetched(slow, place, 3)
    for handed_out in range(5):
        wait_until(lambda most=handed_out + 3: slow.made == most)
        time.sleep(0.02)
        assert slow.made == handed_out + 3
        next(ahead)


def test_time_spent_waiting_is_counted(prefetched):
    slow = Slow()
    ahead = prefetched(slow, place, 1)
    threading.Timer(0.3, slow.allowed.release).start()
    start = time.monotonic()
    next(ahead)
    assert 0.2 < ahead.seconds_waited <= time.monotonic() - start
    before = ahead.seconds_waited
    slow.allowed.release()
    wait_until(lambda: slow.made == 2)
    next(ahead)
    assert ahead.seconds_waited - before < 0.1


def test_unreadable_image_stops_where_it_is_due(prefetched):
    bad = {"image": b"", "name": "bad.png", "data_set": "d"}
    it = batches([*map(record, range(3)), bad], ToExample(1, 2), batch_size=1, seed=0)
    ahead = prefetched(it, place, 4)
    seen = []
    with pytest.raises(UserError, match=r"^bad\.png: "):
        while True:
            seen.append(int(next(ahead)[0]))
    assert len(seen) < 4
    assert ahead.position == {"global_next_index": len(seen)}


def test_close_ends_the_threads():
    before = {*threading.enumerate()}
    ahead = prefetch.Prefetch(stream(), place)
    next(ahead)
    ours = {*threading.enumerate()} - before
    assert {thread.name.split("-")[0] for thread in ours} >= {"prefetch_0", "grain"}
    ahead.close()
    wait_until(lambda: not any(thread.is_alive() for thread in ours))
    assert {*threading.enumerate()} <= before
