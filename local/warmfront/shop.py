"""Finds the example shop: in the installed package, or in the checkout that contains this module."""

from pathlib import Path

PARTS = ("functions", "shared", "template.yaml", "data-tier.yaml", "samconfig.toml")


def shop_folder() -> Path | None:
    """Return the folder with the shop's template and code, or None if neither the wheel nor a checkout has it."""
    here = Path(__file__).parent
    candidates = (here / "shop", here.parents[1])
    return next((each for each in candidates if (each / "template.yaml").is_file()), None)
