"""Generated blocks of Markdown pages: replaces what stands between `<!-- name -->` and `<!-- /name -->`."""

import re


def replace_block(text: str, name: str, content: str) -> str:
    """Return the page with new content in one block.

    Args:
        text: the whole page.
        name: the block's name, as in `<!-- name -->`.
        content: Markdown without the markers.

    Raises:
        ValueError: the page does not have exactly one such block.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"the page needs the lines {start} and {end}, once each")
    before, _, rest = text.partition(start)
    return f"{before}{start}\n{content}\n{end}{rest.partition(end)[2]}"


def read_block(text: str, name: str) -> str:
    """Return a block's content; if it is one fenced code block, the code alone.

    Raises:
        ValueError: the page does not have exactly one such block.
    """
    found = re.findall(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
    if len(found) != 1:
        raise ValueError(f"the page needs the lines <!-- {name} --> and <!-- /{name} -->, once each")
    fenced = re.fullmatch(r"```\w*\n(.*?)\n?```", found[0], re.DOTALL)
    return fenced[1] if fenced else found[0]
