"""Put on PYTHONPATH: this process's wall clock goes wrong by so many seconds."""

import os
import time

_SECONDS = float(os.environ["WALL_CLOCK_OFF_BY"])
_time, _time_ns = time.time, time.time_ns

time.time = lambda: _time() + _SECONDS
time.time_ns = lambda: _time_ns() + int(_SECONDS * 1e9)
