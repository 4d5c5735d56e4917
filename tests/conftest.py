"""Fixtures that every test may use; areas keep their own conftest beside their tests."""

import os
import signal

# Tests run Postgres and Redis from the wheels, whatever the machine has, and never a server that somebody's shell points at.
os.environ["WARMFRONT_BACKING"] = "wheel"
for _name in ("DATABASE_URL", "REDIS_URL"):
    os.environ.pop(_name, None)

# Under nohup, or as a job in a script's background, signals come ignored: the processes of a test would inherit that, and hear none.
for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)
