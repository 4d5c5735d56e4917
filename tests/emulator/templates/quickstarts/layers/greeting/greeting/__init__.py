"""A package of the layer."""


def greet(name: str) -> str:
    return f"hello {name}"
