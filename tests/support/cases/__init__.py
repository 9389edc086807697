"""Small graphs for each family of ops: `cases()` of each file yields (name, Case)."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from tests.support.case import Case


def every() -> Iterator[tuple[str, Case]]:
    """All cases of all families, by `family-name`."""
    for family in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{family.name}")
        for name, case in module.cases():
            yield f"{family.name}-{name}", case
