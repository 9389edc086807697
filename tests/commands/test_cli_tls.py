"""serve --tls-cert, the clients' --tls flags, and the tunnel for those without."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.wire.dialects import NEWEST
from tests.support.certificates import Certificates, make_certificates
from tests.support.processes import Served, serving


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def served(files: Certificates) -> Iterator[Served]:
    """A server that wants a certificate of its clients."""
    flags = ["--tls-cert", files.server, "--tls-client-ca", files.ca]
    with serving("-d", "cpu", "-t", "1", *flags) as served:
        yield served


@contextmanager
def tunnel_to(served: Served, files: Certificates) -> Iterator[Endpoint]:
    """A `ggrpc tunnel` process, and its plain port."""
    flags = ["--tls-ca", files.ca, "--tls-cert", files.client]
    with subprocess.Popen(
        [sys.executable, "-m", "ggrpc", "tunnel", "0", str(served.endpoint), *flags],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        found = re.search(r"listening on (\S+), for ", process.stderr.readline())
        assert found
        try:
            yield Endpoint.parse(found[1])
        finally:
            process.terminate()
        assert process.stderr.read().endswith(" INFO stopped\n")
        assert process.wait(20) == 0


@pytest.mark.parametrize("command", ["probe", "mem"])
def test_commands_speak_tls(  # type: ignore[no-untyped-def]
    piped, served: Served, files: Certificates, command: str
) -> None:
    flags = ["--tls-ca", files.ca, "--tls-cert", files.client]
    code, out, err = piped(command, str(served.endpoint), "--json", *flags)
    assert (code, err) == (0, "")
    assert json.loads(out)["device"] == 0
    code, _, err = piped(*flags, command, str(served.endpoint))
    assert (code, err) == (0, "")


def test_flags_may_stand_in_the_environment(  # type: ignore[no-untyped-def]
    piped, served: Served, files: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGRPC_TLS_CA", files.ca)
    monkeypatch.setenv("GGRPC_TLS_CERT", files.client)
    assert piped("mem", str(served.endpoint)).code == 0


def test_one_run_leaves_nothing_to_the_next(  # type: ignore[no-untyped-def]
    piped, served: Served, files: Certificates
) -> None:
    flags = ["--tls-ca", files.ca, "--tls-cert", files.client]
    assert piped("mem", str(served.endpoint), *flags).code == 0
    assert piped("mem", str(served.endpoint)).code == 5


def test_server_that_is_not_trusted_exits_3(piped, served: Served) -> None:  # type: ignore[no-untyped-def]
    code, out, err = piped("mem", str(served.endpoint), "--tls")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert f"no TLS connection with {served.endpoint}: " in err
    assert "name its CA with --tls-ca" in err


def test_file_that_is_not_there_exits_2(piped, served: Served) -> None:  # type: ignore[no-untyped-def]
    code, _, err = piped("mem", str(served.endpoint), "--tls-ca", "/no/such")
    assert code == 2
    assert "no CA in /no/such: No such file or directory" in err


def test_plain_client_works_through_a_tunnel(  # type: ignore[no-untyped-def]
    piped, served: Served, files: Certificates
) -> None:
    with tunnel_to(served, files) as endpoint:
        (row,) = piped("probe", str(endpoint), "--json").rows
        assert row["protocol"] == str(NEWEST.version)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["0.0.0.0:0", "localhost"], 2, "other machines can reach 0.0.0.0:0"),
        (["lan.example:0", "localhost"], 2, "other machines can reach lan.example:0"),
        (["192.0.2.1:0", "localhost", "--expose"], 3, "cannot listen on 192.0.2.1"),
        (["0", "a,b"], 2, "'a,b' names several endpoints"),
        (["0", "localhost", "--tls-ca", "/no/such"], 2, "no CA in /no/such"),
    ],
)
def test_senseless_tunnel_is_one_line_with_its_code(  # type: ignore[no-untyped-def]
    piped, arguments: list[str], code: int, line: str
) -> None:
    got, _, err = piped("tunnel", *arguments)
    assert got == code
    assert err.startswith(f"ggrpc: error: {line}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--tls-key", "x"], "--tls-key and --tls-client-ca need --tls-cert"),
        (["--tls-cert", "/no/such"], "no certificate and key in /no/such"),
        (["--allow", "lan"], "--allow: 'lan' does not appear to be"),
        (["--max-memory", "lots"], "'lots' is not a valid size"),
    ],
)
def test_senseless_server_is_one_line(piped, arguments: list[str], line: str) -> None:  # type: ignore[no-untyped-def]
    code, _, err = piped("serve", "-p", "0", "-d", "cpu", *arguments)
    assert code == 2
    assert err.startswith(f"ggrpc: error: {line}")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "and nothing is encrypted; restrict access with --allow"),
        (["--allow", "10.0.0.0/8"], ""),
        (["--tls-cert", "{server}"], "fill the memory; restrict access with --allow"),
        (["--tls-cert", "{server}", "--tls-client-ca", "{ca}"], ""),
    ],
)
def test_listening_beyond_this_machine_says_who_gets_in(
    flags: list[str], told: str, files: Certificates
) -> None:
    flags = [flag.format(**files._asdict()) for flag in flags]
    with serving("-H", "0.0.0.0", "-d", "cpu", "-t", "1", *flags) as served:
        assert served.endpoint
    warnings = [line for line in served.log.splitlines() if " WARNING " in line]
    assert len(warnings) == bool(told)
    assert told in "".join(warnings)
