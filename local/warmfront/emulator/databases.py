"""Creates the databases named by the functions' DATABASE_URL in an empty local Postgres."""

import asyncio

from warmfront.backing.postgres import Postgres
from warmfront.emulator.local_urls import database_name
from warmfront.emulator.template import Template

CONNECT_TIMEOUT_S = 10.0


async def create_databases(template: Template, postgres: Postgres) -> None:
    """Create missing databases, except for a template whose set-up creates them and for a server of DATABASE_URL."""
    if template.set_up or postgres.origin == "url":
        return
    declared = (config.environment.get("DATABASE_URL") for config in template.functions.values())
    names = {database_name(url) for url in declared if url is not None} - {"postgres"}
    if not names:
        return
    import asyncpg  # 0.1 s: only for a template that names a database

    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        connection = await asyncpg.connect(postgres.url("postgres"), timeout=CONNECT_TIMEOUT_S)
        try:
            there = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
            for name in sorted(names - there):
                quoted = name.replace('"', '""')
                await connection.execute(f'CREATE DATABASE "{quoted}"')
        finally:
            await connection.close()
