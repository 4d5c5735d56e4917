"""Fixtures that every test may use; areas keep their own conftest beside their tests."""

import os

# Tests run Postgres and Redis from the wheels, whatever the machine has, and never a server that somebody's shell points at.
os.environ["WARMFRONT_BACKING"] = "wheel"
for _name in ("DATABASE_URL", "REDIS_URL"):
    os.environ.pop(_name, None)
