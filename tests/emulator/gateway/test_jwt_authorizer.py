"""JWT authorizers with real signatures: which tokens pass, which do not, and where the keys come from."""

import asyncio
import http.server
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from warmfront.emulator.gateway import GatewayOptions, create_apps
from warmfront.emulator.gateway.jwt_authorizer import KEYS_FOR_S, KeySource
from warmfront.emulator.template import Template

from tests.emulator.gateway.asgi import ask
from tests.emulator.gateway.conftest import Recorder
from tests.emulator.gateway.golden import template_of

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwks(**keys: rsa.RSAPrivateKey) -> str:
    entries = [
        json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": kid} for kid, key in keys.items()
    ]
    return json.dumps({"keys": entries})


def token(key: Any = KEY, kid: str | None = "k1", algorithm: str = "RS256", **claims: Any) -> str:
    now = int(time.time())
    body = {"iss": "https://issuer.example/", "aud": "shop", "sub": "me", "iat": now, "exp": now + 60} | claims
    body = {name: value for name, value in body.items() if value is not None}
    return jwt.encode(body, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(jwks(k1=KEY))
    return path


def status_of(keys: Path, value: str, path: str = "/jwt") -> tuple[int, list[dict[str, Any]], dict[str, str]]:
    service = Recorder()
    options = GatewayOptions(enforce_auth=True, jwks=str(keys), note=lambda _: None)
    (app,) = create_apps(template_of("auth"), service, options)
    status, headers, _ = asyncio.run(ask(app, "GET", path, [("Authorization", value)]))
    return status, [event for _, event in service.calls], dict(headers)


def test_a_signed_token_passes_and_its_claims_reach_the_handler_as_strings(keys: Path) -> None:
    status, (event,), _ = status_of(keys, f"Bearer {token()}")
    context: Any = event["requestContext"]
    assert status == 200
    assert context["authorizer"]["jwt"]["claims"]["sub"] == "me"
    assert context["authorizer"]["jwt"]["claims"]["exp"].isdigit()
    assert context["authorizer"]["jwt"]["scopes"] is None


@pytest.mark.parametrize("prefix", ["", "bearer ", "BEARER "])
def test_the_scheme_is_optional_and_of_any_case(keys: Path, prefix: str) -> None:
    assert status_of(keys, prefix + token())[0] == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"exp": None},
        {"nbf": 4_102_444_800},
        {"iat": 4_102_444_800},
        {"iss": "https://other.example/"},
        {"aud": "other"},
        {"aud": None},
        {"aud": None, "client_id": "other"},
    ],
    ids=str,
)
def test_a_token_with_wrong_claims_is_a_401(keys: Path, claims: dict[str, Any]) -> None:
    status, events, headers = status_of(keys, f"Bearer {token(**claims)}")
    assert (status, events) == (401, [])
    assert headers["www-authenticate"].startswith('Bearer error="invalid_token"')


@pytest.mark.parametrize("claims", [{"aud": ["x", "shop"]}, {"aud": None, "client_id": "shop"}, {"nbf": 1}], ids=str)
def test_audiences_in_a_list_and_client_ids_pass(keys: Path, claims: dict[str, Any]) -> None:
    assert status_of(keys, f"Bearer {token(**claims)}")[0] == 200


def test_a_token_signed_by_another_key_is_a_401(keys: Path) -> None:
    assert status_of(keys, f"Bearer {token(key=OTHER)}")[0] == 401


def test_a_token_of_an_unknown_key_is_a_401(keys: Path) -> None:
    assert status_of(keys, f"Bearer {token(kid='k2')}")[0] == 401


def test_a_changed_token_is_a_401(keys: Path) -> None:
    head, _, signature = token().split(".")
    _, body, _ = token(sub="admin").split(".")
    assert status_of(keys, f"Bearer {head}.{body}.{signature}")[0] == 401


def test_an_unsigned_token_is_a_401(keys: Path) -> None:
    assert status_of(keys, f"Bearer {token(key=None, algorithm='none')}")[0] == 401


def test_a_shared_secret_is_a_401(keys: Path) -> None:
    assert status_of(keys, f"Bearer {token(key='x' * 32, algorithm='HS256')}")[0] == 401


def test_an_elliptic_key_is_a_401_as_http_apis_take_rsa_only(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    entry = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": "k1"}
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [entry]}))
    assert status_of(tmp_path / "jwks.json", f"Bearer {token(key=key, algorithm='ES256')}")[0] == 401


@pytest.mark.parametrize(
    ("claims", "status"),
    [({"scope": "read write"}, 200), ({"scp": ["write"]}, 200), ({"scope": "read"}, 403), ({}, 403)],
    ids=str,
)
def test_a_route_wants_one_of_its_scopes(keys: Path, claims: dict[str, Any], status: int) -> None:
    found, events, headers = status_of(keys, f"Bearer {token(**claims)}", "/scoped")
    assert found == status
    if status == 200:
        context: Any = events[0]["requestContext"]
        assert "write" in context["authorizer"]["jwt"]["scopes"]
    else:
        assert 'error="insufficient_scope"' in headers["www-authenticate"]


def test_keys_that_cannot_be_read_are_a_401(tmp_path: Path) -> None:
    assert status_of(tmp_path / "nowhere.json", f"Bearer {token()}")[0] == 401


def test_keys_are_kept_for_two_hours_and_then_read_again(tmp_path: Path) -> None:
    now_s = 0.0
    path = tmp_path / "jwks.json"
    path.write_text(jwks(k1=KEY))
    source = KeySource(str(path), clock=lambda: now_s)

    async def scenario() -> list[bool]:
        nonlocal now_s
        found = [await source.key("k1") is not None]
        path.write_text(jwks(k2=KEY))
        found.append(await source.key("k2") is not None)
        now_s = KEYS_FOR_S + 1
        found.append(await source.key("k2") is not None)
        return found

    assert asyncio.run(scenario()) == [True, False, True]


def test_a_token_without_key_id_takes_the_only_key(keys: Path) -> None:
    assert status_of(keys, f"Bearer {token(kid=None)}")[0] == 200


class Issuer:
    """An issuer of tokens on loopback: its OpenID configuration and its keys."""

    def __init__(self, jwks_uri: str | None = None) -> None:
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                documents = {
                    "/pool/.well-known/openid-configuration": json.dumps(
                        {"jwks_uri": jwks_uri or f"{issuer.url}/keys"}
                    ),
                    "/pool/keys": jwks(k1=KEY),
                }
                body = documents.get(self.path, "").encode()
                self.send_response(200 if body else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/pool"

    def __enter__(self) -> "Issuer":
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def discovered(template: Callable[[str], Template], issuer: str) -> int:
    loaded = template(
        f"""
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        DefaultAuthorizer: Jwt
        Authorizers: {{Jwt: {{JwtConfiguration: {{issuer: "{issuer}", audience: [shop]}}}}}}
  A:
    Type: AWS::Serverless::Function
    Properties: {{Events: {{Get: {{Type: HttpApi, Properties: {{Path: /a, Method: get, ApiId: !Ref Api}}}}}}}}
"""
    )
    (app,) = create_apps(loaded, Recorder(), GatewayOptions(enforce_auth=True, note=lambda _: None))
    headers = [("Authorization", f"Bearer {token(iss=issuer)}")]
    return asyncio.run(ask(app, "GET", "/a", headers))[0]


def test_keys_come_from_the_discovery_document_of_an_issuer_on_this_machine(
    template: Callable[[str], Template], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a shell's proxy is not asked for loopback
    with Issuer() as issuer:
        assert discovered(template, issuer.url) == 200


def test_a_discovery_document_that_points_elsewhere_is_not_followed(template: Callable[[str], Template]) -> None:
    with Issuer(jwks_uri="https://keys.example/jwks.json") as issuer:
        assert discovered(template, issuer.url) == 401


def test_an_issuer_elsewhere_is_not_asked(template: Callable[[str], Template]) -> None:
    assert discovered(template, "https://issuer.example") == 401
