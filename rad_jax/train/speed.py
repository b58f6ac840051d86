"""How fast a run goes, and what it waits for."""

import time


class Speed:
    """Measures from one line of the logs to the next."""

    def __init__(self, batch_size: int, step_flops: float, peak_flops: float):
        """Starts the clock.

        Args:
          batch_size: images per step, over all devices.
          step_flops: floating-point operations of a step; 0 if not counted.
          peak_flops: that all devices together can do in a second; 0 if not known.
        """
        self._batch_size, self._step_flops = batch_size, step_flops
        self._peak_flops = peak_flops
        self._start, self._waited = time.monotonic(), 0.0

    def lap(self, steps: int, seconds_waited: float) -> dict[str, float]:
        """Of the steps since the last lap, by name.

        Args:
          steps: how many.
          seconds_waited: for the input, since the beginning.

        Returns:
          Images and seconds per step, the share of the time that went by waiting for
          input, and where both are known the share of the devices' peak ("mfu").
        """
        now = time.monotonic()
        seconds = max(now - self._start, 1e-9)
        waited = seconds_waited - self._waited
        self._start, self._waited = now, seconds_waited
        found = {
            "img_per_s": steps * self._batch_size / seconds,
            "step_seconds": seconds / steps,
            "input_wait_share": min(waited / seconds, 1.0),
        }
        if self._step_flops and self._peak_flops:
            done = steps * self._step_flops / seconds
            found["mfu"] = done / self._peak_flops
        return found
