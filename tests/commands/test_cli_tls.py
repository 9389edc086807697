"""serve --tls-cert, the --tls flags of clients, and the tunnel for llama.cpp."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from ggrpc.engine.client.client import connect
from ggrpc.engine.net.tls import client_context
from ggrpc.engine.wire.dialects import NEWEST
from tests.support.certificates import Certificates, issue, make_certificates
from tests.support.processes import Served, serving, tunnel_to
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def served(files: Certificates) -> Iterator[Served]:
    """A server that requires a certificate of its clients."""
    flags = ["--tls-cert", files.server, "--tls-client-ca", files.ca]
    with serving("-d", "cpu", "-t", "1", *flags) as served:
        yield served


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


def test_file_that_is_not_there_exits_9(piped, served: Served) -> None:  # type: ignore[no-untyped-def]
    code, _, err = piped("mem", str(served.endpoint), "--tls-ca", "/no/such")
    assert code == 9
    assert "no CA in /no/such: No such file or directory" in err


def test_plain_client_works_through_a_tunnel(  # type: ignore[no-untyped-def]
    piped, served: Served, files: Certificates
) -> None:
    with tunnel_to(served.endpoint, files) as (_, endpoint):
        (row,) = piped("probe", str(endpoint), "--json").rows
        assert row["protocol"] == str(NEWEST.version)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["0.0.0.0:0", "localhost"], 2, "other machines can reach 0.0.0.0:0"),
        (["lan.example:0", "localhost"], 2, "other machines can reach lan.example:0"),
        (["192.0.2.1:0", "localhost", "--expose"], 3, "cannot listen on 192.0.2.1"),
        (["0", "a,b"], 2, "'a,b' names several endpoints"),
        (["0", "localhost", "--tls-ca", "/no/such"], 9, "no CA in /no/such"),
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
    assert code == (9 if "/no/such" in arguments else 2)
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


@pytest.mark.parametrize(
    ("since", "until", "told"),
    [
        (-9, -2, "WARNING the certificate in {file} expired on "),
        (2, 9, "WARNING the certificate in {file} is not valid before "),
        (-9, 5.5, "WARNING the certificate in {file} expires in 5 days: renew it"),
        (-9, 99, ""),
    ],
)
def test_certificate_is_announced_at_start(
    tmp_path: Path, since: float, until: float, told: str
) -> None:
    file = issue(
        trustme.CA(), tmp_path / "node.pem", "gpu1.lan", since=since, until=until
    )
    with serving("-t", "1", "--tls-cert", file) as served:
        served.wait_for_line(f"listening on {served.endpoint} with TLS\n")
        served.wait_for_line(f"INFO the certificate in {file} is for gpu1.lan, until ")
        served.wait_for_line(told.format(file=file))
    assert served.log.count("WARNING") == bool(told)


def test_first_log_line_of_a_connection_names_the_client(  # type: ignore[no-untyped-def]
    piped, files: Certificates
) -> None:
    flags = ["--tls-cert", files.server, "--tls-client-ca", files.ca]
    with serving("-t", "1", *flags) as served:
        served.wait_for_line(" with TLS for clients with a certificate\n")
        mine = ["--tls-ca", files.ca, "--tls-cert", files.client]
        assert piped("check", str(served.endpoint), *mine).code == 0
        served.wait_for_line("session ended")
    lines = [line for line in served.log.splitlines() if "tests this server" in line]
    assert all("(client@example.org) HELLO: 'ggrpc check'" in line for line in lines)
    assert served.log.count("client@example.org") == len(lines)


def test_hangup_reads_the_certificates_again(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    old, new = trustme.CA(), trustme.CA()
    cas = [str(tmp_path / "old.pem"), str(tmp_path / "new.pem")]
    for ca, path in zip((old, new), cas, strict=True):
        ca.cert_pem.write_to_path(path)
    node = tmp_path / "node.pem"
    file = issue(old, node, "127.0.0.1")
    with serving("-t", "1", "--tls-cert", file) as served:
        endpoint, context = str(served.endpoint), client_context(cas[0])
        with connect(served.endpoint, timeout=20, tls=context) as session:
            assert piped("mem", endpoint, "--tls-ca", cas[0]).code == 0
            node.write_text("nothing")
            served.process.send_signal(signal.SIGHUP)
            served.wait_for_line("ERROR the certificates are unchanged: no ")
            assert piped("mem", endpoint, "--tls-ca", cas[0]).code == 0
            issue(new, node, "127.0.0.1")
            served.process.send_signal(signal.SIGHUP)
            served.wait_for_line("INFO the certificates were reloaded")
            assert piped("mem", endpoint, "--tls-ca", cas[0]).code == 3
            assert piped("mem", endpoint, "--tls-ca", cas[1]).code == 0
            assert session.memory().total > 0  # a session continues


def test_hangup_reads_the_certificates_of_a_tunnel_again(  # type: ignore[no-untyped-def]
    piped, tmp_path: Path
) -> None:
    ca, own = trustme.CA(), tmp_path / "me.pem"
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = issue(ca, tmp_path / "node.pem", "127.0.0.1")
    expired = issue(ca, own, "me@example.org", until=-2)
    flags = ["--tls-cert", server, "--tls-client-ca", str(tmp_path / "ca.pem")]
    with serving("-t", "1", *flags) as served:
        files = Certificates(str(tmp_path / "ca.pem"), server, expired, "")
        with tunnel_to(served.endpoint, files) as (process, endpoint):
            assert piped("mem", str(endpoint)).code != 0
            issue(ca, own, "me@example.org")
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: piped("mem", str(endpoint)).code == 0)
