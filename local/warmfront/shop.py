"""Finds the example shop: packaged beside this module, or the checkout that this module lies in."""

from pathlib import Path

PARTS = ("functions", "shared", "template.yaml", "data-tier.yaml", "samconfig.toml")


def shop_folder() -> Path | None:
    """The folder that holds the shop's template and code, or None where neither the wheel nor a checkout has it."""
    here = Path(__file__).parent
    candidates = (here / "shop", here.parents[1])
    return next((each for each in candidates if (each / "template.yaml").is_file()), None)
