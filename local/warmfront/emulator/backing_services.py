"""Starts the Postgres, Redis and AWS that a template's functions ask for."""

import asyncio
from dataclasses import dataclass

from warmfront.backing.aws import Aws
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis
from warmfront.emulator.options import EmulatorOptions
from warmfront.emulator.template import SqsSource, Template

AWS_TYPES = (
    "AWS::DynamoDB::",
    "AWS::Events::",
    "AWS::Kinesis::",
    "AWS::S3::",
    "AWS::SNS::",
    "AWS::SQS::",
    "AWS::SSM::",
    "AWS::SecretsManager::",
    "AWS::Serverless::SimpleTable",
    "AWS::Serverless::StateMachine",
    "AWS::StepFunctions::",
)
"""A template with a resource of these types gets a local AWS unless the command line says otherwise."""


@dataclass(slots=True)
class BackingServices:
    """The Postgres, Redis and AWS that the template's functions ask for; None where none does."""

    postgres: Postgres | None = None
    redis: Redis | None = None
    aws: Aws | None = None

    def describe(self) -> dict[str, object]:
        parts = {"postgres": self.postgres, "redis": self.redis, "aws": self.aws}
        return {name: part.describe() for name, part in parts.items() if part is not None}

    def stop(self) -> None:
        for part in (self.aws, self.redis, self.postgres):
            if part is not None:
                part.stop()


async def start_backing(backing: BackingServices, template: Template, options: EmulatorOptions) -> None:
    """Start what any runnable function declares or the template holds, all at once."""
    declared = {
        name for config in template.functions.values() if config.not_runnable is None for name in config.environment
    }

    def start_postgres() -> None:
        backing.postgres = Postgres.start(origin=options.origin, max_connections=options.max_connections)

    def start_redis() -> None:
        backing.redis = Redis.start(origin=options.origin)

    def start_aws() -> None:
        backing.aws = Aws.start()

    starts = [
        start for name, start in (("DATABASE_URL", start_postgres), ("REDIS_URL", start_redis)) if name in declared
    ]
    if options.aws == "local" or (options.aws == "auto" and needs_aws(template)):
        starts.append(start_aws)
    await asyncio.gather(*(asyncio.to_thread(start) for start in starts))


def needs_aws(template: Template) -> bool:
    uses = any(kind.startswith(AWS_TYPES) for kind in template.resource_types.values())
    return uses or any(isinstance(source, SqsSource) for source in template.event_sources)
