"""Chooses the AWS region and credentials of an emulator: one region for everything, real credentials only with `--aws real`."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warmfront.emulator.options import StartError

DEFAULT_REGION = "us-east-1"


def choose_region(option: str | None, environ: Mapping[str, str], *, profile: str | None = None) -> str:
    """The region of ARNs, clients, the local AWS and handlers.

    `option` (--region) comes first, then AWS_REGION, AWS_DEFAULT_REGION, the region of the profile, us-east-1.
    Raises StartError when the AWS configuration file cannot be read.
    """
    named = option or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    return named or _region_of_profile(environ, profile) or DEFAULT_REGION


def _region_of_profile(environ: Mapping[str, str], profile: str | None) -> str | None:
    """The region of a profile, read as botocore does, whose import would take 0.2 s
    (docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html)."""
    name = profile or environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
    home = environ.get("HOME")
    path = Path(environ.get("AWS_CONFIG_FILE") or (f"{home}/.aws/config" if home else "/nonexistent"))
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except OSError:
        return None
    import configparser  # most machines that start an emulator have no such file

    file = configparser.RawConfigParser()
    try:
        file.read_string(text)
    except (configparser.Error, ValueError) as error:
        raise StartError(f"{path}: {str(error).splitlines()[0]}; correct it, or choose with --region") from None
    sections = ("default",) if name == "default" else (f"profile {name}",)
    return next((file.get(each, "region", fallback=None) for each in sections if file.has_section(each)), None)


def local_session(region: str) -> Any:
    """Return a boto3 session for the local AWS, with credentials that the real AWS rejects."""
    import boto3

    return boto3.Session("local", "local", "local", region_name=region)


class HostCredentials:
    """The caller's own credentials, by boto3's whole chain: profile, SSO, process, container, instance. Safe in threads."""

    def __init__(self, region: str, profile: str | None) -> None:
        self._region = region
        self._profile = profile
        self._session: Any = None
        self._lock = threading.Lock()

    def session(self) -> Any:
        """The boto3 session. Raises StartError when there is no such profile."""
        import boto3
        from botocore.exceptions import BotoCoreError

        with self._lock:
            if self._session is None:
                try:
                    self._session = boto3.Session(profile_name=self._profile, region_name=self._region)
                except BotoCoreError as error:
                    raise StartError(f"--aws real: {error}") from None
            return self._session

    def variables(self) -> dict[str, str]:
        """Valid credentials as handlers get them, refreshed where they are about to expire. Raises StartError.

        May ask the network. An environment keeps what it started with, so it lives no longer than the credentials
        would on Lambda: hours.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            found = self.session().get_credentials()
            frozen = found.get_frozen_credentials() if found is not None else None
        except (BotoCoreError, ClientError) as error:
            raise StartError(f"--aws real: {error}") from None
        if frozen is None:
            raise StartError(
                "--aws real: no AWS credentials found; run `aws configure` or `aws sso login`, or name a --profile"
            )
        variables = {"AWS_ACCESS_KEY_ID": frozen.access_key, "AWS_SECRET_ACCESS_KEY": frozen.secret_key}
        return variables | ({"AWS_SESSION_TOKEN": frozen.token} if frozen.token else {})
