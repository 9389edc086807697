"""Checks the nodes of a case against their contracts, as validation does."""

from __future__ import annotations

import pytest

from ggrpc.errors import GraphError
from ggrpc.ops import contract_of
from tests.support.case import Case


def check(case: Case) -> None:
    """Check every node.

    Raises:
        GraphError: a node breaks its contract.
    """
    for node in case.graph().nodes:
        contract_of(node.tensor.op).check(node)
        contract_of(node.tensor.op).check_placed(node)


def assert_refused(case: Case, message: str) -> None:
    """Check that the case is refused with an error that matches `message`."""
    with pytest.raises(GraphError, match=message):
        check(case)
