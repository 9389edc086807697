"""Decodes and validates graphs, and finds out which op table a client uses.

Some protocol versions were released with several op tables. Arity, shapes and types of
a graph rule out nearly all tables but the right one, so the first graph of a session
decides.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from ggrpc.bounds import Region
from ggrpc.engine.wire.graphs import read_graph
from ggrpc.engine.wire.op_tables import OpTable
from ggrpc.errors import GgrpcError
from ggrpc.graph import Graph

log = logging.getLogger(__name__)


class GraphReader:
    """Reads the graphs of one session.

    Args:
        tables: the candidate op tables, the most likely first.
    """

    def __init__(self, tables: Sequence[OpTable]) -> None:
        self._tables = tables

    def read(self, payload: bytes, regions: Mapping[int, Region]) -> Graph:
        """Decode and validate a graph.

        Args:
            payload: the graph in wire format.
            regions: the session's buffers by handle.

        Raises:
            GgrpcError: the graph is invalid with every candidate table.
        """
        if len(self._tables) > 1:
            return self._choose_table(payload, regions)
        return _read(payload, self._tables[0], regions)

    def _choose_table(self, payload: bytes, regions: Mapping[int, Region]) -> Graph:
        fits: list[tuple[OpTable, Graph]] = []
        errors: list[GgrpcError] = []
        for table in self._tables:
            try:
                fits.append((table, _read(payload, table, regions)))
            except GgrpcError as error:
                errors.append(error)
        if not fits:
            raise errors[0]
        table, graph = fits[0]
        others = [t.date for t, g in fits[1:] if _ops(g) != _ops(graph)]
        if others:
            log.warning(
                "a graph fits the op tables of %s and %s but means different ops: "
                "using %s; choose another with --op-table",
                *(table.date, ", ".join(others), table.date),
            )
        log.debug("op table of %s", table.date)
        self._tables = (table,)
        return graph


def _read(payload: bytes, table: OpTable, regions: Mapping[int, Region]) -> Graph:
    graph = read_graph(payload, table)
    graph.validate(regions)
    return graph


def _ops(graph: Graph) -> list[tuple[object, object]]:
    return [(node.tensor.op, node.params) for node in graph.nodes]
