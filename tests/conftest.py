from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak-sessions",
        type=int,
        default=5000,
        help="how many sessions the soak test opens; 40000 take a minute",
    )
