"""One build per architecture, one account and one deployment per stage for all tests of a run; both builds at once."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import tools
from tests.deploy.account import REGION, Account, account
from tests.deploy.tools import HOST, OTHER, Built, Project, with_code_in_s3


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    tools.require_tools()
    return Project.copy(tmp_path_factory.mktemp("deploy") / "project")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sam build`'s, so that a build of a changed copy fetches nothing again."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as running:
        yield running


@pytest.fixture(scope="session")
def builds(project: Project, cache: Path, pool: ThreadPoolExecutor) -> dict[str, Future[Built]]:
    return {name: pool.submit(project.build, name, cache=cache / name) for name in (HOST, OTHER)}


@pytest.fixture(scope="session", autouse=True)
def validations(project: Project, builds: object, pool: ThreadPoolExecutor) -> dict[str, Future[str]]:
    """Begun with the builds, which wait for the network more than they work."""
    del builds
    return {name: pool.submit(project.sam, "validate", "--lint", "--config-env", name) for name in ("default", "prod")}


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

    def environment(self, name: str) -> dict[str, str]:
        """A function's, as deployed, but for addresses: nothing listens where these point."""
        variables: dict[str, str] = self.functions[name]["Environment"]["Variables"]
        elsewhere = {
            "DATABASE_URL": f"postgresql://nobody:nothing@127.0.0.1:1/{name.lower()}",
            "REDIS_URL": "redis://127.0.0.1:1/0",
        }
        return {
            **{key: str(value) for key, value in variables.items()},
            **{key: value for key, value in elsewhere.items() if key in variables},
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_REGION": REGION,
            "TZ": ":UTC",
        }

    @property
    def template(self) -> dict[str, Any]:
        """After the SAM transform."""
        body: dict[str, Any] = self.account.client("cloudformation").get_template(StackName=self.stack)["TemplateBody"]
        return body

    @property
    def outputs(self) -> dict[str, str]:
        (stack,) = self.account.client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


@pytest.fixture(scope="session")
def dev(project: Project, built: Built, aws: Account) -> Deployment:
    return Deployment(aws, "warmfront-dev", project.deploy(built, "default", aws.url))


@pytest.fixture(scope="session")
def prod(project: Project, built: Built, aws: Account) -> Deployment:
    return Deployment(aws, "warmfront-prod", project.deploy(built, "prod", aws.url))


@pytest.fixture(scope="session")
def deploy(project: Project, built: Built, dev: Deployment) -> Callable[..., Deployment]:
    """The same artefacts with other parameters, as a stack of its own."""

    def with_parameters(stack: str, **parameters: str) -> Deployment:
        uploaded = {name: function["Code"] for name, function in dev.functions.items()}
        uris = {name: f"s3://{code['S3Bucket']}/{code['S3Key']}" for name, code in uploaded.items()}
        template = with_code_in_s3(built.template, uris)
        dev.account.deploy(stack, template, {**project.parameters("default"), **parameters})
        return Deployment(dev.account, stack, "")

    return with_parameters


@pytest.fixture(scope="session")
def functions(dev: Deployment) -> dict[str, str]:
    """Logical id -> handler."""
    return {name: properties["Handler"] for name, properties in dev.functions.items()}


@pytest.fixture(params=["dev", "prod"])
def deployment(request: pytest.FixtureRequest) -> Deployment:
    found: Deployment = request.getfixturevalue(request.param)
    return found
