"""Options that would have no effect are errors, before the command does anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from ggrpc.commands.environment import Environment
from ggrpc.commands.main import run
from tests.commands.conftest import Terminal
from tests.support.processes import serving


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--tls-cert c.pem serve -p 0", "--tls-cert has no effect before 'serve'"),
        ("--tls devices", "--tls has no effect before 'devices'"),
        ("--tls-ca ca.pem cache ls", "--tls-ca has no effect before 'cache'"),
        ("--tls-key k.pem inspect x", "--tls-key has no effect before 'inspect'"),
        ("probe x --tls-key k.pem", "--tls-key needs --tls-cert"),
        ("serve --no-comm --comm-timeout 5", "--comm-timeout has no effect with"),
        ("serve --no-comm --comm-peers ::1", "--comm-peers has no effect with"),
        ("serve --cache-limit 20G", "--cache-limit has no effect without -c"),
        ("serve -c --cache-limit 1M", "--cache-limit 1.0 MiB leaves no room"),
        ("serve --tls-key k.pem", "--tls-key and --tls-client-ca need --tls-cert"),
        ("push x.npy x --dry-run", "--dry-run is for the weights of a GGUF"),
        ("push x.gguf x --dry-run --hold", "--dry-run is for the weights of a GGUF"),
        ("replay x.bin --device cpu node1", "give either --device or ENDPOINTs"),
    ],
)
def test_option_without_effect_is_one_line_and_exits_2(  # type: ignore[no-untyped-def]
    piped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "cache"))
    outcome = piped(*arguments.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err and outcome.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_certificates_of_the_environment_disturb_no_local_command(  # type: ignore[no-untyped-def]
    piped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGRPC_TLS_CA", "/etc/ca.pem")
    assert piped("cache", "ls", "--cache-dir", str(tmp_path)).code == 0


def test_keep_going_is_refused_at_a_prompt() -> None:
    stderr = Terminal()
    environment = Environment(Terminal(), stderr, stdin=Terminal())
    assert run(["shell", "127.0.0.1:1", "--keep-going"], environment) == 2
    assert "--keep-going has no effect at a prompt" in stderr.getvalue()


@pytest.mark.parametrize("option", [("-o", "x.npy"), ("--force",)])
def test_list_of_shared_tensors_takes_no_file(piped, option: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    with serving() as served:
        outcome = piped("pull", str(served.endpoint), *option)
    assert outcome.code == 2
    assert "has no effect without a NAME" in outcome.err
