"""One build per architecture, one account and one deployment per stage for all tests of a run; both builds at once."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from warmfront.backing.postgres import Postgres
from warmfront.backing.redis import Redis

from tests.deploy import events, tools
from tests.deploy.account import REGION, Account, account
from tests.deploy.tools import HOST, OTHER, Built, Call, Project, environment, with_code_in_s3


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    tools.require_tools()
    return Project.copy(tmp_path_factory.mktemp("deploy") / "project")


@pytest.fixture(scope="session")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as running:
        yield running


@pytest.fixture(scope="session")
def builds(
    project: Project, pool: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Future[Built]]:
    """Each in a folder of its own: what `sam build` keeps in .aws-sam is not for two at a time."""
    other = Project.copy(tmp_path_factory.mktemp("other") / "project", project.folder)
    return {name: pool.submit(each.build, name) for name, each in ((HOST, project), (OTHER, other))}


@pytest.fixture(scope="session", autouse=True)
def validations(project: Project, builds: object, pool: ThreadPoolExecutor) -> dict[str, Future[str]]:
    """Begun with the builds, which wait for the network more than they work."""
    del builds
    names = ("default", "prod", "data", "data-prod")
    return {name: pool.submit(project.sam, "validate", "--lint", "--config-env", name) for name in names}


@pytest.fixture(scope="session")
def built(builds: dict[str, Future[Built]]) -> Built:
    """For this machine, so that it can be imported."""
    return builds[HOST].result()


@pytest.fixture(scope="session")
def built_for_other(builds: dict[str, Future[Built]]) -> Built:
    return builds[OTHER].result()


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tools.runtime_packages(tmp_path_factory.mktemp("runtime") / "packages")


@pytest.fixture(scope="session")
def aws() -> Iterator[Account]:
    with account() as running:
        yield running


@dataclass(frozen=True, slots=True)
class Deployment:
    """A stack in the account, and what SAM CLI printed while making it."""

    account: Account
    stack: str
    printed: str

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        return self.account.of_type(self.stack, kind)

    @property
    def functions(self) -> dict[str, dict[str, Any]]:
        return self.of_type("AWS::Lambda::Function")

    def environment(self, name: str, **elsewhere: str) -> dict[str, str]:
        """A function's, as deployed; `elsewhere` takes the place of addresses that only AWS knows."""
        declared: dict[str, Any] = self.functions[name]["Environment"]["Variables"]
        return {
            **{key: str(value) for key, value in declared.items()},
            **{key: value for key, value in elsewhere.items() if key in declared},
            **environment({"AWS_ENDPOINT_URL": self.account.url}, only=("AWS_",)),
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "TIMEOUT_S": str(self.functions[name]["Timeout"]),
            "AWS_REGION": REGION,
            "TZ": ":UTC",
        }

    def alone(self, name: str) -> dict[str, str]:
        """Nothing listens where its addresses point."""
        nowhere = f"postgresql://nobody:nothing@127.0.0.1:1/{name.lower()}"
        return self.environment(name, DATABASE_URL=nowhere, REDIS_URL="redis://127.0.0.1:1/0", SHOP_DB_CA_FILE="")

    def logical_ids(self) -> dict[str, str]:
        """Physical id -> logical id."""
        found = self.account.client("cloudformation").describe_stack_resources(StackName=self.stack)["StackResources"]
        return {each["PhysicalResourceId"]: each["LogicalResourceId"] for each in found if "PhysicalResourceId" in each}

    @property
    def template(self) -> dict[str, Any]:
        """After the SAM transform, where there is one."""
        body = self.account.client("cloudformation").get_template(StackName=self.stack)["TemplateBody"]
        document: dict[str, Any] = tools.parsed(body) if isinstance(body, str) else body
        return document

    @property
    def outputs(self) -> dict[str, str]:
        (stack,) = self.account.client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


@pytest.fixture(scope="session")
def data_dev(project: Project, aws: Account) -> Deployment:
    return Deployment(aws, "warmfront-data-dev", project.deploy_data("data", aws.url, Cache="deployed"))


@pytest.fixture(scope="session")
def data_prod(project: Project, aws: Account) -> Deployment:
    return Deployment(aws, "warmfront-data-prod", project.deploy_data("data-prod", aws.url, Cache="deployed"))


@pytest.fixture(scope="session")
def dev(project: Project, built: Built, aws: Account, data_dev: Deployment) -> Deployment:
    return Deployment(aws, "warmfront-dev", project.deploy(built, "default", data_dev.outputs, aws.url))


@pytest.fixture(scope="session")
def prod(project: Project, built: Built, aws: Account, data_prod: Deployment) -> Deployment:
    return Deployment(aws, "warmfront-prod", project.deploy(built, "prod", data_prod.outputs, aws.url))


@pytest.fixture(scope="session")
def deploy(project: Project, built: Built, dev: Deployment, data_dev: Deployment) -> Callable[..., Deployment]:
    """The same artefacts with other parameters, as a stack of its own; `data`: another data tier's outputs than dev's."""

    def with_parameters(stack: str, data: Mapping[str, str] | None = None, **parameters: str) -> Deployment:
        uploaded = {name: function["Code"] for name, function in dev.functions.items()}
        uris = {name: f"s3://{code['S3Bucket']}/{code['S3Key']}" for name, code in uploaded.items()}
        template = with_code_in_s3(built.template, uris)
        given = {**project.parameters("default"), **(data_dev.outputs if data is None else data), **parameters}
        dev.account.deploy(stack, template, given)
        return Deployment(dev.account, stack, "")

    return with_parameters


@pytest.fixture(scope="session")
def functions(dev: Deployment) -> dict[str, str]:
    """Logical id -> handler."""
    return {name: properties["Handler"] for name, properties in dev.functions.items()}


@pytest.fixture(scope="session")
def alone(
    built: Built, dev: Deployment, runtime: Path, functions: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Call]:
    """Every built handler in a bare interpreter, its database away: it has to run, and to say no."""
    scratch = tmp_path_factory.mktemp("alone")
    return {
        name: tools.call(
            handler,
            events.ALONE[name],
            folders=(built.folder / name, built.layer, runtime),
            environ=dev.alone(name),
            scratch=scratch,
        )
        for name, handler in functions.items()
    }


@pytest.fixture(scope="session")
def together(
    built: Built, dev: Deployment, runtime: Path, functions: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Call]:
    """The same with a database, a cache and a queue."""
    scratch = tmp_path_factory.mktemp("together")
    found = {}
    with Postgres.start({}, max_connections=30) as postgres, Redis.start({}) as redis:
        for name, given in events.TOGETHER.items():
            database = {"Migrate": "postgres", "Relay": "distributed"}.get(name, name.lower())
            backing = {"DATABASE_URL": postgres.url(database), "REDIS_URL": redis.url(), "SHOP_DB_SSL": "disable"}
            backing |= {"SHOP_DB_LOGIN": "url", "SHOP_DB_SECRET": "", "SHOP_DB_CA_FILE": ""}
            backing |= {"SHOP_DB_ROLE": "", "SHOP_DB_ROLE_SECRET": "", "SHOP_REDIS_MODE": "single"}
            found[name] = tools.call(
                functions[name],
                given,
                folders=(built.folder / name, built.layer, runtime),
                environ=dev.environment(name, **backing),
                scratch=scratch,
            )
    return found


@pytest.fixture(params=["dev", "prod"])
def deployment(request: pytest.FixtureRequest) -> Deployment:
    found: Deployment = request.getfixturevalue(request.param)
    return found
