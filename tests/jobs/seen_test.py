from rad_jax.jobs import seen
from rad_jax.jobs.seen import Seen


def test_names_are_new_once(monkeypatch):
    monkeypatch.setattr(seen, "MOST_RECENT", 100)
    names, found = [f"x/{i}.png" for i in range(1000)], Seen()
    assert all(found.add(name) for name in names)
    assert not any(found.add(name) for name in names)
    assert all(name in found for name in names)
    assert not any(f"y/{i}.png" in found for i in range(1000))


def test_it_takes_eight_bytes_a_name():
    found = Seen(str(i) for i in range(100_000))
    assert found._sorted.nbytes + 8 * len(found._recent) == 800_000
