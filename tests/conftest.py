"""Fixtures that every test may use; areas keep their own conftest beside their tests."""
