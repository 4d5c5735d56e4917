"""Starts the Postgres, Redis and local AWS that a template's functions need."""

import asyncio
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from warmfront.backing.aws import Aws
from warmfront.backing.executables import OriginChoice
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis
from warmfront.emulator.data_directory import DataDirectory
from warmfront.emulator.options import EmulatorOptions, StartError
from warmfront.emulator.resources.stack import has_resources
from warmfront.emulator.template import SqsSource, Template

DURABLE = {"fsync": "on", "full_page_writes": "on"}
"""Settings of a Postgres whose data is kept between runs, so that it survives a crash of the machine too."""


@dataclass(slots=True)
class BackingServices:
    """The running Postgres, Redis and local AWS; None where no function needs it."""

    postgres: Postgres | None = None
    redis: Redis | None = None
    aws: Aws | None = None

    def describe(self) -> dict[str, object]:
        parts = {"postgres": self.postgres, "redis": self.redis, "aws": self.aws}
        return {name: part.describe() for name, part in parts.items() if part is not None}

    @property
    def remote(self) -> list[str]:
        """HOST:PORT of the servers on other machines (--backing url)."""
        parts = [each for each in (self.postgres, self.redis) if each is not None and each.origin == "url"]
        return [f"{each.host}:{each.port}" for each in parts if not is_loopback(each.host)]

    def stop(self) -> None:
        for part in (self.aws, self.redis, self.postgres):
            if part is not None:
                part.stop()


async def start_backing(
    backing: BackingServices,
    template: Template,
    options: EmulatorOptions,
    data: DataDirectory | None,
    *,
    region: str,
    lambda_endpoint: str | None,
) -> None:
    """Start what any runnable function declares or the template holds, all at once.

    `lambda_endpoint`: where state machines of the local AWS invoke functions.
    """
    declared = declared_urls(template)

    keep_open = (data.lock_fd,) if data is not None else ()

    origins = choose_origins(options.origin, declared, os.environ)

    def start_postgres() -> None:
        backing.postgres = Postgres.start(
            origin=origins["DATABASE_URL"],
            max_connections=options.max_connections,
            autovacuum=data is not None,
            extra_settings=DURABLE if data is not None else None,
            state_dir=data.folder("") if data is not None else None,
            keep_open=keep_open,
        )

    def start_redis() -> None:
        backing.redis = Redis.start(
            origin=origins["REDIS_URL"], data=data.folder("redis") if data is not None else None, keep_open=keep_open
        )

    def start_aws() -> None:
        backing.aws = Aws.start(
            region=region,
            data=data.folder("aws") if data is not None else None,
            keep_open=keep_open,
            lambda_endpoint=lambda_endpoint,
        )

    starts = [
        start for name, start in (("DATABASE_URL", start_postgres), ("REDIS_URL", start_redis)) if name in declared
    ]
    if starts_aws(template, options):
        starts.append(start_aws)
    await asyncio.gather(*(asyncio.to_thread(start) for start in starts))


def choose_origins(origin: OriginChoice, declared: set[str], environ: Mapping[str, str]) -> dict[str, OriginChoice]:
    """For DATABASE_URL and REDIS_URL: where the server comes from.

    With `url` a variable that is not set stands for a server of our own; raises StartError when none of those that
    the template declares is set.
    """
    names = ("DATABASE_URL", "REDIS_URL")
    if origin != "url":
        return dict.fromkeys(names, origin)
    if declared and not any(environ.get(name) for name in declared):
        raise StartError(
            f"--backing url: {' and '.join(sorted(declared))} not set; set the address of a server, or leave it out"
        )
    return {name: "url" if environ.get(name) else "auto" for name in names}


def is_loopback(host: str) -> bool:
    """Whether this host name or address is this machine, without asking a name server."""
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def unused_urls(backing: BackingServices, environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each server URL in the shell's environment that this emulator does not use."""
    found = {"DATABASE_URL": backing.postgres, "REDIS_URL": backing.redis}
    return [
        f"{name} of the shell ({urlsplit(environ[name]).hostname}) is not used; --backing url would"
        for name, server in found.items()
        if environ.get(name) and server is not None and server.origin != "url"
    ]


def declared_urls(template: Template) -> set[str]:
    """Return which of DATABASE_URL and REDIS_URL the template's runnable functions declare."""
    runnable = (config for config in template.functions.values() if config.not_runnable is None)
    return {name for config in runnable for name in config.environment} & {"DATABASE_URL", "REDIS_URL"}


def needs_aws(template: Template) -> bool:
    """Tell whether the template has a resource that the local AWS emulates, or a function with a queue as event source."""
    return has_resources(template) or any(isinstance(source, SqsSource) for source in template.event_sources)


def starts_aws(template: Template, options: EmulatorOptions) -> bool:
    """Whether a local AWS is started for this template."""
    return options.aws == "local" or (options.aws == "auto" and needs_aws(template))
