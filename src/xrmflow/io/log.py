"""Log lines and progress: a bar with rate and time left on a terminal, plain lines in a log file."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0

logger = logging.getLogger(__name__)


def configure(level: int = logging.INFO) -> None:
    """Send log records to standard error: coloured on a terminal, plain lines elsewhere."""
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False)
        style = "%(message)s"
    else:
        handler = logging.StreamHandler()
        style = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=level, format=style, datefmt="%H:%M:%S", handlers=[handler], force=True)
    for noisy in ("numba", "matplotlib", "PIL", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def track(items: Iterable[T], *, total: int | None = None, label: str = "") -> Iterator[T]:
    """Iterate over `items` and show how far the loop has come (an `xrmflow.arrays.Track`)."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    return _bar(items, total, label) if sys.stderr.isatty() else _lines(items, total, label)


def _bar(items: Iterable[T], total: int | None, label: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total, rate="")
        begin = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            progress.update(task, advance=1, rate=f"{_rate(done, begin):.3g}/s")


def _lines(items: Iterable[T], total: int | None, label: str) -> Iterator[T]:
    begin = shown = time.monotonic()
    done = 0
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown >= SECONDS_BETWEEN_LINES:
            shown = now
            rate = _rate(done, begin)
            left = f", {(total - done) / rate:.0f} s left" if total else ""
            logger.info("%s: %d of %s, %.3g/s%s", label, done, total or "?", rate, left)
    logger.info("%s: %d done in %.1f s", label, done, time.monotonic() - begin)


def _rate(done: int, begin: float) -> float:
    return done / max(time.monotonic() - begin, 1e-6)
