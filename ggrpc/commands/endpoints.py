"""Parses the ENDPOINT arguments of commands: lists, ranges, files and the environment.

Only the text is parsed; no server is contacted and no name is resolved.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ggrpc.commands.environment import Environment
from ggrpc.endpoint import Endpoint
from ggrpc.errors import ConfigError, FileError

VARIABLE = "GGRPC_ENDPOINTS"
MAX = 100_000  # far more than any fleet has: more is a typing error in a range

Endpoints = Annotated[list[str] | None, typer.Argument(metavar="ENDPOINT", hidden=True)]
OneEndpoint = Annotated[
    str,
    typer.Argument(metavar="ENDPOINT", envvar=VARIABLE, show_envvar=False, hidden=True),
]

# A comma that is not inside brackets.
_COMMA = re.compile(r",(?![^\[\]]*\])")
_RANGES = re.compile(r"\[(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)\]")


def endpoints_of(
    typed: Sequence[str] | None, environment: Environment
) -> list[Endpoint]:
    """Parse the ENDPOINT arguments of a command.

    Args:
        typed: single endpoints, lists with commas, `@FILE` or `-`, with ranges as in
            `node[01-16,20]:50052`; if empty, $GGRPC_ENDPOINTS is read.
        environment: provides stdin for `-`.

    Raises:
        ConfigError: an endpoint is invalid, or there are too many.
        FileError: a file cannot be read.
    """
    typed = typed or os.environ.get(VARIABLE, "").split()
    if not typed:
        raise ConfigError(f"no servers given: write host:port, or set ${VARIABLE}")
    texts = itertools.chain.from_iterable(_words(text, environment) for text in typed)
    expanded = itertools.chain.from_iterable(map(_expand, texts))
    endpoints = [Endpoint.parse(text) for text in itertools.islice(expanded, MAX + 1)]
    if len(endpoints) > MAX:
        raise ConfigError(f"more than {MAX} endpoints: check the ranges")
    if not endpoints:
        raise ConfigError(f"no endpoint in {' '.join(typed)}: write host:port")
    return endpoints


def one_endpoint(typed: str) -> Endpoint:
    """Parse the endpoint of a command that takes a single server.

    Raises:
        ConfigError: the text is invalid, or names several endpoints.
    """
    if len(list(itertools.islice(_expand(typed), 2))) > 1 or _COMMA.search(typed):
        raise ConfigError(f"'{typed}' names several endpoints: give exactly one")
    return Endpoint.parse(typed)


def _words(text: str, environment: Environment) -> Iterable[str]:
    if text == "-":
        return _lines(environment.stdin.read())
    if text.startswith("@"):
        try:
            return _lines(Path(text[1:]).read_text())
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not a text file"
            raise FileError(
                f"cannot read endpoints from {text[1:]}: {reason}"
            ) from None
    return _COMMA.split(text)


def _lines(text: str) -> Iterator[str]:
    """The endpoints of a file: any number per line, with # before a comment."""
    for line in text.splitlines():
        for word in line.partition("#")[0].split():
            yield from filter(None, _COMMA.split(word))


def _expand(text: str) -> Iterator[str]:
    """The endpoints that a text with ranges names; the last range varies fastest."""
    found = _RANGES.search(text)
    if found is None:
        yield text
        return
    for number in _numbers(found[1]):
        for rest in _expand(text[found.end() :]):
            yield f"{text[: found.start()]}{number}{rest}"


def _numbers(ranges: str) -> Iterator[str]:
    """The numbers of `01-16,20`, zero-padded to the width of the first."""
    for text in ranges.split(","):
        first, dash, last = text.partition("-")
        if dash and int(last) < int(first):
            raise ConfigError(f"the range [{ranges}] runs backwards")
        for number in range(int(first), int(last if dash else first) + 1):
            yield str(number).zfill(len(first))
