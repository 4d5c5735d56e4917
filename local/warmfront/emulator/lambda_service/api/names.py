"""The names a function can be invoked by: versions, aliases, ARNs. Runs nothing."""

from warmfront.emulator.template import FunctionConfig

LATEST = "$LATEST"
PUBLISHED = "1"
"""The version an alias points at: locally there is only one."""


def version_of(config: FunctionConfig, qualifier: str) -> str | None:
    """The version that a qualifier names; None when the function has none of that name."""
    if qualifier == LATEST:
        return LATEST
    if config.auto_publish_alias is not None and qualifier in (config.auto_publish_alias, PUBLISHED):
        return PUBLISHED
    return None


def split_name(name: str) -> tuple[str, str | None]:
    """Function name and qualifier of a name, a partial ARN (`123456789012:function:f:live`) or a full ARN."""
    parts = name.split(":")
    if "function" in parts:
        parts = parts[parts.index("function") + 1 :]
    return parts[0], parts[1] if len(parts) > 1 else None
