"""Problems that only the shop has; the general ones are in shared/kit/problems.py."""

from shared.kit.problems import Problem


class OutOfStock(Problem):
    type, title, status = "out-of-stock", "Not enough stock", 409
