"""The account's concurrency, or one function's where two sets of environments share it."""


class AccountLimit:
    """Concurrent invocations over all functions of the account."""

    def __init__(self, concurrency_max: int, reason: str = "ConcurrentInvocationLimitExceeded") -> None:
        self.reason = reason
        self._max = concurrency_max
        self._taken = 0

    def take(self) -> bool:
        if self._taken >= self._max:
            return False
        self._taken += 1
        return True

    def give_back(self) -> None:
        self._taken -= 1
