"""Execute the book's chapters side by side, each in a kernel of its own, into the cache that the build reads.

python book/_tools/execute.py [--jobs 2] [--timeout 300] [--force] [CHAPTER ...]

A chapter such as foundations/f-divergences runs again when its code, gankit or a library has changed. One that raises
is reported with its cell and line and makes the exit status 1; the others are finished and kept all the same.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
sys.path.insert(0, str(BOOK / "_ext"))

BUDGET = 60.0  # seconds that a chapter may take on two cores
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
# Silences two notes that say nothing about the chapter: an unencrypted local socket, and frozen modules in a debugger.
QUIET_ARGUMENTS, QUIET = ["--log-level=40"], {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}


@dataclass
class Run:
    """One execution of a chapter: what came out, how long it took, and what stopped it."""

    chapter: str
    notebook: Any
    seconds: float = 0.0
    problem: str = ""


Watch = Callable[[int, int], None]  # told how many code cells are done, and of how many


@dataclass
class Board:
    """Where the running chapters are: one live line in a terminal, now and then a line elsewhere."""

    live: bool = field(default_factory=sys.stdout.isatty)
    every: float = 10.0
    running: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def note(self, name: str, done: int, total: int) -> None:
        """Chapter ``name`` has finished ``done`` of its ``total`` code cells."""
        with self.lock:
            self.running[name] = f"{done}/{total}"

    def leave(self, name: str) -> None:
        with self.lock:
            self.running.pop(name, None)

    def line(self) -> str:
        with self.lock:
            cells = ", ".join(f"{name} {done}" for name, done in self.running.items())
        return f"  {time.monotonic() - self.began:4.0f} s  cells done: {cells}"

    def tell(self, text: str) -> None:
        """Print a line that stays."""
        with self.lock:
            self._erase()
            print(text, flush=True)
            self.told = time.monotonic()

    def refresh(self) -> None:
        """Bring the live line up to date, or print a line if none has been printed for a while."""
        if not self.running:
            return
        if self.live:
            with self.lock:
                self._erase()
                print(self.line()[: shutil.get_terminal_size().columns - 1], end="", flush=True)
        elif time.monotonic() - self.told > self.every:
            self.tell(self.line())

    def _erase(self) -> None:
        if self.live:
            print("\r\033[K", end="")


def entries(toc: Path = ROOT / "_toc.yml") -> list[str]:
    """Every file named by the table of contents, in its order and without suffix."""

    def walk(node: object) -> Iterator[str]:
        if isinstance(node, Mapping):
            yield from (str(node[key]) for key in ("root", "file") if key in node)
            yield from (name for value in node.values() for name in walk(value))
        elif isinstance(node, list):
            yield from (name for item in node for name in walk(item))

    return list(walk(yaml.safe_load(toc.read_text("utf-8"))))


def chapters() -> list[str]:
    """The chapters in the book's order, for example foundations/f-divergences."""
    names = (name.removeprefix("book/") for name in entries())
    return [name for name in names if path_of(name).exists()]


def path_of(chapter: str) -> Path:
    return BOOK / f"{chapter}.ipynb"


def choose(wanted: Sequence[str]) -> list[str]:
    """The named chapters, or all of them; exits if the table of contents has no such chapter."""
    known = chapters()
    if unknown := sorted(set(wanted) - set(known)):
        sys.exit(f"no such chapter: {', '.join(unknown)}. There are: {', '.join(known) or 'none'}")
    return [name for name in known if name in wanted] if wanted else known


def explain(error: Exception, cell: Any, lines: int = 12) -> str:
    """Which line of which cell failed, and the end of the traceback, in plain text."""
    trace = re.sub(r"\x1b\[[0-9;]*m", "", error.traceback if isinstance(error, CellExecutionError) else str(error))
    place, source = cell.get("id", "a cell"), cell.get("source", "").splitlines()
    if (found := re.search(r"Cell In\[\d+\], line (\d+)", trace)) and int(found[1]) <= len(source):
        place += f", line {found[1]}: {source[int(found[1]) - 1].strip()}"
    return "\n    ".join([place, *[line for line in trace.splitlines() if line.strip("- ")][-lines:]])


class Kernels:
    """Chapters being executed, so that an interrupt can end their kernels; each runs in a thread with its own loop."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], asyncio.AbstractEventLoop] = {}

    def run(self, client: NotebookClient, environment: Mapping[str, str]) -> None:
        async def execute() -> None:
            task = asyncio.current_task()
            assert task is not None  # for mypy: a coroutine under asyncio.run is a task
            self._tasks[task] = asyncio.get_running_loop()
            try:
                await client.async_execute(env={**os.environ, **ONE_THREAD, **QUIET, **environment})
            finally:
                del self._tasks[task]

        asyncio.run(execute())

    def stop(self) -> None:
        for task, loop in list(self._tasks.items()):
            loop.call_soon_threadsafe(task.cancel)


def execute(
    chapter: str,
    *,
    environment: Mapping[str, str] | None = None,
    timeout: int = 300,
    allow_errors: bool = False,
    watch: Watch = lambda done, total: None,
    kernels: Kernels | None = None,
) -> Run:
    """Execute a chapter in its own folder; ``watch`` is told after each code cell how many of them are done.

    With ``allow_errors`` the cells after one that raised run too, and the errors stand among the outputs.
    """
    run = Run(chapter, nbformat.read(path_of(chapter), as_version=4))
    total, done, current = sum(cell.cell_type == "code" for cell in run.notebook.cells), 0, run.notebook.cells[0]

    def starts(cell: Any, cell_index: int) -> None:
        nonlocal current
        current = cell

    def ends(cell: Any, cell_index: int, execute_reply: Any) -> None:
        nonlocal done
        done += 1
        watch(done, total)

    client = NotebookClient(
        run.notebook,
        kernel_name="python3",
        timeout=timeout,
        allow_errors=allow_errors,
        record_timing=False,
        shutdown_kernel="immediate",
        extra_arguments=QUIET_ARGUMENTS,
        resources={"metadata": {"path": str(path_of(chapter).parent)}},
        on_cell_execute=starts,
        on_cell_executed=ends,
    )
    watch(0, total)
    began = time.monotonic()
    try:
        (kernels or Kernels()).run(client, environment or {})
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        run.problem = explain(error, current)
    run.seconds = time.monotonic() - began
    return run


Task = Callable[[Watch, Kernels], Run]


def side_by_side(tasks: Mapping[str, Task], jobs: int) -> Iterator[tuple[str, Run]]:
    """Run the named tasks, ``jobs`` at a time and in order, with progress; yield each with its name as it finishes."""
    board, kernels = Board(), Kernels()
    pool = ThreadPoolExecutor(jobs)
    finished = threading.Event()

    def work(name: str) -> Run:
        board.tell(f"started  {name}")
        try:
            return tasks[name](lambda done, total: board.note(name, done, total), kernels)
        finally:
            board.leave(name)

    def keep_fresh() -> None:
        while not finished.wait(0.25):
            board.refresh()

    ticker = threading.Thread(target=keep_fresh, daemon=True)
    ticker.start()
    futures: dict[Future[Run], str] = {pool.submit(work, name): name for name in tasks}
    try:
        for future in as_completed(futures):
            run = future.result()
            board.tell(f"{'FAILED  ' if run.problem else 'finished'} {futures[future]} in {run.seconds:.1f} s")
            yield futures[future], run
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        kernels.stop()
        raise
    finally:
        finished.set()
        pool.shutdown()
        ticker.join()


class Cache:
    """Executed chapters, as the build looks them up, and how long each of them took last time."""

    def __init__(self) -> None:
        from gankit_cache import cache_path  # its name is a digest of gankit's sources and the libraries' versions

        folder = Path(cache_path())
        folder.mkdir(parents=True, exist_ok=True)
        self._cache = get_cache(str(folder))
        self._file = ROOT / "_build" / "chapter-seconds.json"
        self.seconds: dict[str, float] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def has(self, chapter: str) -> bool:
        try:
            self._cache.match_cache_notebook(nbformat.read(path_of(chapter), as_version=4))
        except KeyError:
            return False
        return True

    def keep(self, run: Run) -> None:
        """Store a finished run; the times are replaced in one step, so that an interrupt leaves either state whole."""
        uri = self._cache.add_nb_to_project(str(path_of(run.chapter))).uri
        bundle = CacheBundleIn(run.notebook, uri, data={"execution_seconds": run.seconds})
        self._cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
        self.seconds[run.chapter] = round(run.seconds, 1)
        draft = self._file.with_suffix(".draft")
        draft.write_text(json.dumps(self.seconds, indent=1, sort_keys=True))
        draft.replace(self._file)


def summary(names: Sequence[str], runs: Mapping[str, Run], cache: Cache, wall: float) -> str:
    """A table of every chapter's time, in the book's order."""
    width = max(map(len, names))
    rows = []
    for name in names:
        run = runs.get(name)
        seconds = run.seconds if run else cache.seconds.get(name, 0.0)
        state = "cached" if run is None else "FAILED" if run.problem else "executed"
        late = f"  over the budget of {BUDGET:.0f} s" if run and seconds > BUDGET else ""
        rows.append(f"  {name:{width}}  {seconds:6.1f} s  {state}{late}")
    return "\n".join([*rows, f"  {'in all':{width}}  {wall:6.1f} s  for {len(runs)} of {len(names)} chapters"])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "chapters", nargs="*", metavar="CHAPTER", help="for example foundations/f-divergences; default: all"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="chapters that run at the same time")
    parser.add_argument("--timeout", type=int, default=300, help="seconds that a cell may take")
    parser.add_argument("--force", action="store_true", help="execute chapters that are in the cache, too")
    options = parser.parse_args(argv)

    began, cache, names = time.monotonic(), Cache(), choose(options.chapters)
    if not names:
        print("The table of contents names no chapter yet.")
        return 0
    todo = [name for name in names if options.force or not cache.has(name)]
    todo.sort(key=lambda name: -cache.seconds.get(name, BUDGET))  # the longest first, so that none is left for the end
    print(f"{len(names) - len(todo)} of {len(names)} chapters are in the cache, {len(todo)} to execute", flush=True)
    runs: dict[str, Run] = {}

    def task(name: str) -> Task:
        return lambda watch, kernels: execute(name, timeout=options.timeout, watch=watch, kernels=kernels)

    try:
        for _, run in side_by_side({name: task(name) for name in todo}, options.jobs):
            runs[run.chapter] = run
            if run.problem:
                print(f"  book/{run.chapter}.ipynb, {run.problem}", flush=True)
            else:
                cache.keep(run)
    except KeyboardInterrupt:
        print(f"\nInterrupted; {len(runs)} chapters were finished and are kept.", file=sys.stderr)
        return 130
    print(summary(names, runs, cache, time.monotonic() - began))
    failed = [f"book/{name}.ipynb" for name, run in runs.items() if run.problem]
    if failed:
        print(f"{len(failed)} failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
