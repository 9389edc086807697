"""Checks a server: the protocol first, then the arithmetic of each of its devices."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import NamedTuple

from ggrpc.devices.device import Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.checking import extended_cases, llm_cases
from ggrpc.engine.checking.conformance import STEPS, Step
from ggrpc.engine.checking.trial import Case, Trial, difference, result_of
from ggrpc.engine.client.remote_device import RemoteDevice, RemoteServer, operations_of
from ggrpc.errors import GgrpcError, TransportError, UnsupportedOp

PROTOCOL, ARITHMETIC = "protocol", "arithmetic"


class Verdict(Enum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(NamedTuple):
    """What came out of one check.

    Attributes:
        device: the number of the device.
        part: PROTOCOL or ARITHMETIC.
        name: the command, or the op and what is special about it.
        result: how it ended.
        detail: what is wrong, or why it was skipped.
        error: how far the result lies from the cpu's (normalised mean squared error).
        limit: how far it may.
        seconds: how long it took.
    """

    device: int
    part: str
    name: str
    result: Verdict
    detail: str = ""
    error: float | None = None
    limit: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class CheckSettings:
    """What is checked.

    Attributes:
        connect: opens a session on the server.
        reference: the device here that results are compared with.
        full: whether all ops and types, or those of language models.
    """

    connect: Callable[[Endpoint], RemoteServer]
    reference: Device
    full: bool = False

    @property
    def cases(self) -> list[Case]:
        """What is computed."""
        return [*llm_cases.cases(), *(extended_cases.cases() if self.full else ())]


class Checker:
    """Checks one server, in a session of its own; where that breaks, in another one.

    A context manager, for as long as there is a session.

    Args:
        endpoint: the server.
        settings: what is checked.

    Attributes:
        total: how many findings there will be.

    Raises:
        GgrpcError: there is no session to be had.
    """

    def __init__(self, endpoint: Endpoint, settings: CheckSettings) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._cases = settings.cases
        self._server: RemoteServer | None = settings.connect(endpoint)
        self._devices = range(len(self._server.devices))
        self.total = len(self._devices) * (len(STEPS) + len(self._cases))

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, *error: object) -> None:
        if self._server is not None:
            self._server.close()

    def run(self) -> Iterator[Finding]:
        """Check; the findings come as they are made.

        Raises:
            GgrpcError: the session broke, and there is no other to be had.
        """
        for number in self._devices:
            for step in STEPS:
                yield self._step(number, step)
            for case in self._cases:
                yield self._case(number, case)

    def _step(self, number: int, step: Step) -> Finding:
        device = self._device(number)
        blank = Finding(number, PROTOCOL, step.name, Verdict.OK)
        if step.needs not in device.client.dialect.commands:
            return blank._replace(
                result=Verdict.SKIPPED,
                detail=f"protocol {device.client.version} has none",
            )
        start = time.perf_counter()
        try:
            wrong = step.run(device)
        except GgrpcError as error:
            wrong = str(error)
            self._mend(error)
        return blank._replace(
            result=Verdict.FAILED if wrong else Verdict.OK,
            detail=wrong or "",
            seconds=time.perf_counter() - start,
        )

    def _case(self, number: int, case: Case) -> Finding:
        device = self._device(number)
        blank = Finding(number, ARITHMETIC, case.name, Verdict.OK, limit=case.limit)
        lacks = _lacks(device, case)
        if lacks:
            return blank._replace(result=Verdict.SKIPPED, detail=lacks)
        ours = result_of(case, self._settings.reference)
        start = time.perf_counter()
        try:
            theirs = result_of(case, device)
        except UnsupportedOp as lack:
            return blank._replace(result=Verdict.SKIPPED, detail=str(lack))
        except GgrpcError as failure:
            self._mend(failure)
            return blank._replace(result=Verdict.FAILED, detail=str(failure))
        error = difference(case, theirs, ours)
        finding = blank._replace(error=error, seconds=time.perf_counter() - start)
        if error < case.limit:
            return finding
        where = "where there is infinity or NaN" if error == inf else "in its values"
        detail = f"differs from {self._settings.reference.name} here, {where}"
        return finding._replace(result=Verdict.FAILED, detail=detail)

    def _device(self, number: int) -> RemoteDevice:
        if self._server is None:
            self._server = self._settings.connect(self._endpoint)
        return self._server.device(number)

    def _mend(self, error: GgrpcError) -> None:
        """Have a new session made where this one is over."""
        if self._server is not None and isinstance(error, TransportError):
            with suppress(GgrpcError):
                self._server.close()
            self._server = None


def _lacks(device: RemoteDevice, case: Case) -> str:
    """Why a server's version cannot compute a case, or may mean something else."""
    tables = device.client.dialect.tables
    if case.since > tables[-1].date:
        return f"came on {case.since[:10]}; the server's ops may be those of before"
    trial = Trial()
    case.build(trial)
    for node in trial.g.graph().nodes:
        for operation in operations_of(node):
            if len({table.number(operation) for table in tables}) > 1:
                return (
                    f"{operation.name} has several numbers in protocol "
                    f"{device.client.version}: say which with --op-table"
                )
    return ""
