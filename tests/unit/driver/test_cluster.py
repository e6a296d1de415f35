"""Addresses where no Ray is: told apart, and in seconds."""

from __future__ import annotations

import http.server
import socket
import threading
import time

import pytest

from raylottery.driver import cluster
from raylottery.errors import NotFoundError, UsageError


@pytest.mark.parametrize(
    "address", ["localhost", ":6379", "localhost:", "localhost:ray", "localhost:65536", "h:²"]
)
def test_an_address_that_is_none_is_refused_with_an_example(address):
    with pytest.raises(UsageError, match="expected HOST:PORT, such as"):
        cluster.reach(address)


def test_a_ray_client_address_is_refused():
    with pytest.raises(UsageError, match="HOST:PORT"):
        cluster.reach("ray://localhost:10001")


def test_a_port_where_nobody_listens_is_told_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(NotFoundError, match=r"refused.*ray start --head") as refused:
        cluster.reach(f"127.0.0.1:{port}")
    assert refused.value.exit_code == 3


def test_a_port_where_something_else_listens_is_told_in_seconds(monkeypatch):
    """Ray itself would go on asking a web server for ever."""
    monkeypatch.setattr(cluster, "PATIENCE_S", 1.0)
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(NotFoundError, match="it is no Ray head"):
        cluster.reach(f"127.0.0.1:{server.server_port}")
    assert time.monotonic() - began < 30
    server.shutdown()
    server.server_close()


def test_tokens_are_decided_explicitly(monkeypatch, tmp_path):
    import os

    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def chosen(address: str | None) -> str:
        monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
        cluster.choose_auth(address)
        return os.environ["RAY_AUTH_MODE"]

    assert chosen(None) == "disabled"
    assert chosen("head:6379") == "disabled"
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    assert chosen("head:6379") == "token"
    assert chosen(None) == "disabled", "a local Ray needs none"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    cluster.choose_auth(None)
    assert os.environ["RAY_AUTH_MODE"] == "token", "the user's own word counts"
    monkeypatch.delenv("RAY_AUTH_MODE")
