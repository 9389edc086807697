"""Runs the checks on each device of a server: first protocol, then arithmetic."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import NamedTuple

from ggrpc.closable import Closable
from ggrpc.devices.device import Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.checking import extended_cases, llm_cases
from ggrpc.engine.checking.case import Case, CaseBuilder, difference, result_of
from ggrpc.engine.checking.conformance import PREREQUISITES, STEPS, Step
from ggrpc.engine.client.failures import UnansweredCommands
from ggrpc.engine.client.remote_device import RemoteDevice, RemoteServer
from ggrpc.errors import (
    GgrpcError,
    ProtocolError,
    RefusedError,
    TransportError,
    UnsupportedOp,
)

PROTOCOL, ARITHMETIC = "protocol", "arithmetic"


class Verdict(Enum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        device: the number of the device.
        part: PROTOCOL or ARITHMETIC.
        name: the command, or the op and its variant.
        result: how the check ended.
        detail: what is wrong, or why the check was skipped.
        error: the normalised mean squared error, compared with the reference device;
            None if nothing was compared.
        limit: an error must be smaller than this to pass; None for the protocol.
        seconds: the time that the check took on the server.
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
    """What to check.

    Attributes:
        connect: opens a session on a server.
        reference: the local device that computes the expected results.
        full: whether to check all ops and types, and requests that a server refuses;
            otherwise only the ops and types of language models.
    """

    connect: Callable[[Endpoint], RemoteServer]
    reference: Device
    full: bool = False

    @property
    def steps(self) -> list[Step]:
        """The steps to run on each device."""
        return [step for step in STEPS if self.full or not step.is_refused]

    @property
    def cases(self) -> list[Case]:
        """The cases to compute on each device."""
        return [*llm_cases.cases(), *(extended_cases.cases() if self.full else ())]


class Checker(Closable):
    """Checks one server; a context manager that closes the session.

    If a check breaks the session, the next check opens a new one. Commands that the
    server did not answer are not sent again.

    Args:
        endpoint: the server.
        settings: what to check.

    Attributes:
        total: the number of findings that `run` yields.

    Raises:
        GgrpcError: no session could be opened.
    """

    def __init__(self, endpoint: Endpoint, settings: CheckSettings) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._steps, self._cases = settings.steps, settings.cases
        self._unanswered = UnansweredCommands()
        self._server: RemoteServer | None = None
        self._server = self._connected()
        self._devices = range(len(self._server.devices))
        self.total = len(self._devices) * (len(self._steps) + len(self._cases))
        # By device, the first step of `PREREQUISITES` that failed.
        self._failed_prerequisite: dict[int, str] = {}

    def close(self) -> None:
        """End the session on the server."""
        if self._server is not None:
            self._server.close()

    def run(self) -> Iterator[Finding]:
        """Run all checks; yields each finding as soon as it is known.

        Raises:
            GgrpcError: the session broke, and no new one could be opened.
        """
        for number in self._devices:
            for step in self._steps:
                yield self._step(number, step)
            for case in self._cases:
                yield self._case(number, case)

    def _step(self, number: int, step: Step) -> Finding:
        device = self._device(number)
        finding = Finding(number, PROTOCOL, step.name, Verdict.OK)
        if step.needs not in device.client.dialect.commands:
            return finding._replace(
                result=Verdict.SKIPPED,
                detail=f"protocol {device.client.version} does not have it",
            )
        start = time.perf_counter()
        try:
            fault = step.run(device)
            verdict = Verdict.FAILED if fault else Verdict.OK
        except GgrpcError as error:
            fault, verdict = str(error), self._verdict(error)
            self._drop_session(error)
        if verdict is Verdict.FAILED and step.name in PREREQUISITES:
            self._failed_prerequisite.setdefault(number, step.name)
        seconds = time.perf_counter() - start
        return finding._replace(result=verdict, detail=fault or "", seconds=seconds)

    def _case(self, number: int, case: Case) -> Finding:
        finding = Finding(number, ARITHMETIC, case.name, Verdict.OK, limit=case.limit)
        device = self._device(number)
        reason = _reason_to_skip(device, case)
        if reason:
            return finding._replace(result=Verdict.SKIPPED, detail=reason)
        ours = result_of(case, self._settings.reference)
        start = time.perf_counter()
        try:
            theirs = result_of(case, device)
        except UnsupportedOp as unsupported:
            return finding._replace(result=Verdict.SKIPPED, detail=str(unsupported))
        except GgrpcError as failure:
            verdict = self._verdict(failure)
            self._drop_session(failure)
            if verdict is Verdict.FAILED:
                return self._failed(finding, str(failure))
            return finding._replace(result=verdict, detail=str(failure))
        error = difference(case, theirs, ours)
        finding = finding._replace(error=error, seconds=time.perf_counter() - start)
        if error < case.limit:
            return finding
        where = "the positions of infinity and NaN" if error == inf else "the values"
        reference = self._settings.reference.name
        return self._failed(
            finding, f"{where} differ from those of the local {reference}"
        )

    def _failed(self, finding: Finding, detail: str) -> Finding:
        """The finding for a failed case; skipped if a prerequisite had failed."""
        if step := self._failed_prerequisite.get(finding.device):
            detail = f"follows from {step}, which failed: {detail}"
            return finding._replace(result=Verdict.SKIPPED, detail=detail)
        return finding._replace(result=Verdict.FAILED, detail=detail)

    def _device(self, number: int) -> RemoteDevice:
        """A device, with the whole timeout for the next check."""
        if self._server is None:
            self._server = self._connected()
        self._server.client.share_timeout()
        return self._server.device(number)

    def _connected(self) -> RemoteServer:
        server = self._settings.connect(self._endpoint)
        # Otherwise a command that hangs would take the whole timeout in each check.
        server.client.unanswered = self._unanswered
        return server

    def _verdict(self, error: GgrpcError) -> Verdict:
        """Skipped if the check needs a command that the server left unanswered."""
        unanswered = any(each.name == error.command for each in self._unanswered)
        refused = isinstance(error, RefusedError) and unanswered
        return Verdict.SKIPPED if refused else Verdict.FAILED

    def _drop_session(self, error: GgrpcError) -> None:
        """Close the session if the error ended it."""
        if self._server is not None and isinstance(
            error, (ProtocolError, TransportError)
        ):
            with suppress(GgrpcError):
                self._server.close()
            self._server = None


def _reason_to_skip(device: RemoteDevice, case: Case) -> str:
    """Why the result of a case says nothing about this server; '' if it does."""
    dialect = device.client.dialect
    if case.since > dialect.tables[-1].date:
        return f"added on {case.since[:10]}; the server may be older"
    builder = CaseBuilder()
    case.build(builder)
    for node in builder.g.graph().nodes:
        for operation in node.operations:
            if not dialect.has_one_number(operation):
                return (
                    f"{operation.name} has several numbers in protocol "
                    f"{device.client.version}: choose one with --op-table"
                )
    return ""
