"""Execute notebooks with papermill, and show them as web pages that need no network."""

import base64
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

from ..runs.claims import make_folder
from ..runs.folders import project_root, write_text
from ..runs.schedules import run_in_order
from .environment import KERNEL
from .formulas import to_mathml

ENGINE = "seldom saved"
# A kernel warns of its transport, and some report the interrupt that ends them, or a message that
# comes while they end, as an error. What goes wrong in a cell, or ends a kernel early, is raised
# here and needs no log.
QUIET = [
    "--IPKernelApp.log_level=CRITICAL",
    "--IPKernelApp.logging_config={'loggers': {'tornado.general': {'level': 'CRITICAL'}}}",
]
WEB = Path(__file__).parent / "web"  # templates, style and the font of formulas


class LastLine:
    """A file that keeps the last line written to it: what a notebook has printed last."""

    def __init__(self):
        self.line = "no line yet"

    def write(self, text):
        """Take what a cell prints."""
        self.line = next(filter(str.strip, reversed(text.splitlines())), self.line)

    def flush(self):
        """Nothing waits."""


def run_notebooks(given, folder):
    """Execute notebooks by name with the parameters given to each, and write their pages."""
    names = list(given)
    print(f"first: {names[0]} (1 of {len(names)})", flush=True)
    with ThreadPoolExecutor(1) as executor:  # writes a page while the next notebook runs
        written = []
        for number, (name, parameters) in enumerate(given.items(), start=1):
            executed = folder / "notebooks" / f"{name}.ipynb"
            _run_notebook(
                executed, parameters, lambda seconds, n=number: _report(n, names, seconds)
            )
            written.append(executor.submit(write_page, executed, names))
        for page in written:
            page.result()  # raises what went wrong in its thread


def _run_notebook(executed, parameters, finished):
    """Execute one notebook; now and then say which line it has printed last."""
    printed = LastLine()
    source = project_root() / "notebooks" / executed.name
    job = execute_notebook, source, executed, parameters, kernel_name(), printed
    run_in_order(
        {executed.stem: job},
        finished=lambda name, seconds: finished(seconds),
        under_way=lambda names: print(f"  {names[0]}: {printed.line}", flush=True),
    )


def _report(number, names, seconds):
    """Say how long notebook `number` of `names` took, and what is next."""
    n = len(names)
    following = f"{names[number]} ({number + 1} of {n})" if number < n else "the report"
    width = max(map(len, names))
    print(f"{names[number - 1]:{width}}  {seconds:4.0f} s   next: {following}", flush=True)


def kernel_name():
    """The project's kernel where it is installed, else the one every environment has."""
    from jupyter_client.kernelspec import KernelSpecManager

    return KERNEL if KERNEL in KernelSpecManager().find_kernel_specs() else "python3"


class _SeldomSaved(NotebookExecutionManager):
    """Saves a notebook at its end and now and then: after each cell it would take seconds."""

    def save(self, **others):
        """Save, if that was long ago or nothing comes after."""
        is_at_end = self.nb.metadata.papermill["end_time"] is not None
        seconds = (self.now() - self.last_save_time).total_seconds()
        if is_at_end or seconds >= self.autosave_cell_every:
            super().save(**others)


class _Engine(NBClientEngine):
    """papermill's engine, whose notebook is seldom saved; however it ends, it is saved then."""

    @classmethod
    def execute_notebook(cls, nb, kernel_name, output_path=None, progress_bar=False, **others):
        manager = _SeldomSaved(nb, output_path=output_path, progress_bar=progress_bar)
        manager.notebook_start()
        try:
            cls.execute_managed_notebook(manager, kernel_name, **others)
        finally:
            manager.notebook_complete()
        return manager.nb


papermill_engines.register(ENGINE, _Engine)


def execute_notebook(source, target, parameters, kernel, printed=None):
    """Execute a notebook with papermill; what is at `target` is complete.

    An execution that fails is a ``RuntimeError`` of one sentence; it is left beside, with its
    traceback, as ``failed-<name>``. What cells print goes to `printed`, too, an open file.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # tells of the cell that Ctrl-C ended
    failed = make_folder(target.parent) / f"failed-{target.name}"
    try:
        papermill.execute_notebook(
            _escaped(source),
            _escaped(failed),
            parameters=parameters,
            kernel_name=kernel,
            progress_bar=False,
            stdout_file=printed,
            engine_name=ENGINE,
            cwd=source.parent,
            extra_arguments=QUIET,
        )
    except papermill.PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt from error
        said = error.evalue if error.ename == "ValueError" else f"{error.ename}: {error.evalue}"
        where = f"{source.name}, cell In [{error.exec_count}]"
        raise RuntimeError(f"{where}: {said}\n(as far as it came: {failed})") from error
    except DeadKernelError as error:
        found = "the kernel died, perhaps for lack of memory"
        raise RuntimeError(f"{source.name}: {found}\n(as far as it came: {failed})") from error
    failed.replace(target)


def _escaped(path):
    """A path as papermill takes it, which puts parameters where a path has names in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def write_page(path, names):
    """Write the executed notebook at `path` as a web page beside it, linked to those of `names`."""
    notebook = nbformat.read(path, as_version=4)
    exporter = HTMLExporter(template_file=str(WEB / "notebook.html.j2"))
    exporter.register_filter("markdown2html", _markdown_to_html)
    page = {
        "title": title_of(notebook),
        "name": path.stem,
        "names": names,
        "style": (WEB / "style.css").read_text(encoding="utf-8"),
        "font": data_uri(WEB / "STIXTwoMath.woff2", "font/woff2"),
    }
    section = page["title"]
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            section = cell.source.splitlines()[0].lstrip("# ")
        cell.metadata["alt"] = f"Figure of: {section}"
    content, _ = exporter.from_notebook_node(notebook, resources={"page": page})
    write_text(path.with_suffix(".html"), content)


def data_uri(path, kind):
    """A file as an address that holds it: a page with it is whole by itself."""
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def title_of(notebook):
    """The title of a notebook: the first line of its first cell."""
    return notebook.cells[0].source.splitlines()[0].lstrip("# ")


class _Renderer(IPythonRenderer):
    """Markdown whose formulas are MathML, and whose links to notebooks lead to their pages."""

    def inline_math(self, body):
        return to_mathml(body)

    def block_math(self, body):
        return f'<span class="formula" tabindex="0">{to_mathml(body, "block")}</span>'

    def latex_environment(self, name, body):
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def link(self, text, url, title=None):
        return super().link(text, url.replace(".ipynb", ".html"), title)


def _markdown_to_html(source):
    """Markdown as HTML."""
    return MarkdownWithMath(renderer=_Renderer(escape=False)).render(source)
