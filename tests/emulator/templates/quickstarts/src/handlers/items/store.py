"""What the handler beside it reads."""

ITEMS = {"1": "one"}
