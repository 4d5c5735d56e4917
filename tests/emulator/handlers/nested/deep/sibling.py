"""What the nested handler imports."""

WORD = "from below"
