"""An init of INIT_S seconds, or of INIT_S the first time only (FIRST_ONLY names a marker file)."""

import os
import time
from typing import Any

marker = os.environ.get("FIRST_ONLY")
if marker is None or not os.path.exists(marker):
    if marker:
        open(marker, "w").close()
    time.sleep(float(os.environ["INIT_S"]))


def handler(event: Any, context: Any) -> Any:
    return "ready"
