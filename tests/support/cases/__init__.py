"""Small graphs for each family of ops: `cases()` of each file yields (name, Case)."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from tests.support.case import Case


@cache
def all_cases() -> dict[str, Case]:
    """The cases of all families, by `family-name`."""
    found = {}
    for family in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{family.name}")
        found.update({f"{family.name}-{name}": case for name, case in module.cases()})
    return found
