"""Backing services as child processes: Postgres, Redis and a local AWS."""
