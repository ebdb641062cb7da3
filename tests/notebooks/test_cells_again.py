"""Cells can be run again, in any order: no name means one thing early and another one late."""

from symtable import symtable

import pytest
from test_notebooks import SOURCES, code_cells, declared

SETTLED = {"out", "task", "crop_size"}  # parameters of which a cell makes what they then are


def scopes(table):
    """The table of a scope and those of all within it."""
    yield table
    for child in table.get_children():
        yield from scopes(child)


def bound_and_read(source):
    """Names that a cell gives a meaning, but for imports, and those that others have to give."""
    cell = symtable(source, "cell", "exec")
    bound = {s.get_name() for s in cell.get_symbols() if s.is_assigned() or s.is_namespace()}
    imported = {s.get_name() for s in cell.get_symbols() if s.is_imported()}
    read = {
        symbol.get_name()
        for scope in scopes(cell)
        for symbol in scope.get_symbols()
        if symbol.is_referenced() and (scope is cell or symbol.is_global())
    }
    return bound - imported, read - bound - imported


def taken_from_earlier_cells(cells):
    """Of cells, (which, name) of what a cell reads and a later one gives another meaning."""
    names = [bound_and_read(source) for source in cells]
    return [
        (number, name)
        for number, (_, read) in enumerate(names)
        for name in sorted(read)
        if any(name in bound for bound, _ in names[:number])
        and any(name in bound for bound, _ in names[number + 1 :])
    ]


def test_a_name_that_is_taken_is_found():
    cells = ["rows = [1]", "def f():\n    return rows", "for rows in (2, 3):\n    pass", "f()"]
    assert taken_from_earlier_cells(cells) == [(1, "rows")]
    assert taken_from_earlier_cells([*cells[:2], "[rows for rows in (2, 3)]"]) == []
    assert taken_from_earlier_cells(["import os", "os.sep", "import os"]) == []


@pytest.mark.parametrize("name", SOURCES)
def test_no_later_cell_takes_a_name_that_an_earlier_one_reads(name):
    assert taken_from_earlier_cells([cell.source for cell in code_cells(SOURCES[name])]) == []


@pytest.mark.parametrize("name", SOURCES)
def test_parameters_stay_what_was_asked_for(name):
    taken = set(declared(name)) - SETTLED
    for cell in code_cells(SOURCES[name])[1:]:
        assert not taken & bound_and_read(cell.source)[0]
