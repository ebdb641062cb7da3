"""The house stays small: few modules in a folder, few lines of code in a module."""

import ast
import io
import tokenize

from segcal_lite.runs.folders import project_root

MOST_MODULES, MOST_LINES = 13, 200
PACKAGE = project_root() / "segcal_lite"
NO_CODE = {getattr(tokenize, name) for name in ("COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT")}
WITH_TEXT = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def n_lines_of_code(source):
    """Lines that hold more than comments, docstrings or nothing."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = [t for t in tokens if t.type not in NO_CODE and t.type != tokenize.ENDMARKER]
    lines = {number for t in code for number in range(t.start[0], t.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, WITH_TEXT) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def test_lines_are_counted_without_texts():
    assert n_lines_of_code('"""Text."""\n\n# why\nA = 1  # why\n') == 1
    assert n_lines_of_code('def f():\n    """Text\n\n    goes on."""\n    return """a\nb"""\n') == 3
    assert n_lines_of_code("a = [\n    1,\n    # why\n]\n") == 3


def test_no_folder_has_many_modules():
    modules = {}
    for path in PACKAGE.rglob("*.py"):
        if not path.name.startswith("_"):
            modules.setdefault(path.parent.relative_to(PACKAGE.parent).as_posix(), []).append(path)
    assert {name: len(m) for name, m in modules.items() if len(m) > MOST_MODULES} == {}


def test_no_module_is_long():
    lengths = {
        path.relative_to(PACKAGE.parent).as_posix(): n_lines_of_code(path.read_text("utf-8"))
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: n for name, n in lengths.items() if n > MOST_LINES} == {}
