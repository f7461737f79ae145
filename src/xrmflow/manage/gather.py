"""Put the parts of volumes together: their chunks are linked, not copied."""

from pathlib import Path

from xrmflow.errors import UserError
from xrmflow.io.stores import gather


def run(*, parts: list[Path], stores: list[Path]) -> None:
    """Publish the stores that sealed parts make up, as the workflow does with what its jobs have made.

    Args:
        parts: sealed parts: all of the first store, then as many of the next.
        stores: the stores to write, in the same order.
    """
    each = len(parts) // len(stores) if stores else 0
    if not each or each * len(stores) != len(parts):
        raise UserError(f"parts: expected as many for each of {len(stores)} store(s), got {len(parts)}")
    for number, store in enumerate(stores):
        gather(parts[number * each : (number + 1) * each], store)
