"""Trained networks as safetensors with a model card, and the checkpoints of unfinished training.

Weights are never pickled: a safetensors file holds numbers and a JSON header and cannot run code. The header says which
architecture the numbers belong to, so that the file can be used alone; the card beside it is for people and the report.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from xrmflow.errors import StoreError
from xrmflow.io.documents import read_document, write_document
from xrmflow.io.manifest import write_durably
from xrmflow.io.stores import Volume
from xrmflow.io.strict_json import is_known, parse
from xrmflow.networks.architectures import build, name_of
from xrmflow.networks.normalisation import Normalisation
from xrmflow.networks.slicenet import SliceNetwork
from xrmflow.networks.training import Losses, Plan

HEADER = "xrmflow"
FORMAT = 1

Task = Literal["n2i", "sr"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A trained network and what is needed to apply it.

    Attributes:
        task: what it was trained for.
        network: the network, on the CPU.
        normalisation: of its inputs and outputs.
        quantity: of the volumes it was trained on.
        options: what else the task needs (JSON-ready), e.g. the factor of super-resolution.
    """

    task: Task
    network: SliceNetwork
    normalisation: Normalisation
    quantity: str
    options: dict[str, Any] = field(default_factory=dict)

    def fits(self, volume: Volume, **options: Any) -> "Model":
        """The model itself, once it is known to have been trained for the volume's quantity and with these options.

        Raises:
            StoreError: it was not.
        """
        trained = {"quantity": self.quantity, **self.options}
        for name, value in {"quantity": volume.quantity, **options}.items():
            if trained.get(name) != value:
                raise StoreError(
                    f"{volume.path}: {name}: the model was trained with {trained.get(name)}, this scan has {value}; "
                    "train a model on scans like this one"
                )
        return self


def save_model(
    path: Path,
    card: Path,
    model: Model,
    *,
    plan: Plan,
    losses: Losses,
    about: dict[str, Any],
    provenance: dict[str, Any],
) -> None:
    """Write the weights and then the card that names their checksum.

    Args:
        path: of the weights, .safetensors.
        card: of the model card, .json.
        model: what to write.
        plan: how it was trained, for the card.
        losses: what it reached, for the card.
        about: what else the card is to say (JSON-ready), e.g. the scans it was trained on.
        provenance: from `xrmflow.io.provenance.provenance`.
    """
    described = _describe(model)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.network.state_dict().items()}
    data = save(tensors, metadata={HEADER: json.dumps(described, sort_keys=True)})
    parameters = sum(tensor.numel() for tensor in tensors.values())
    digest = hashlib.sha256(data).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, data)
    payload = {**described, "weights": path.name, "sha256": digest, "parameters": parameters}
    payload |= {"seed": plan.seed, "steps": losses.step[-1], "precision": losses.precision, **about}
    payload["loss"] = losses.to_dict()
    write_document(card, kind="model", payload=payload, provenance=provenance)


def load_model(path: Path, task: Task) -> Model:
    """Read weights written by `save_model`; a card beside them (same name, .json) must name their checksum.

    Raises:
        StoreError: no such file, not safetensors (a pickle, a damaged file), not written by xrmflow, trained for
            another task, an unknown architecture, tensors that do not fit it, or another checksum than the card's.
    """
    described, tensors = _read(path)
    _check_card(path)
    if described.get("task") != task:
        raise StoreError(f"{path}: expected a model trained for {task}, got one for {described.get('task')}")
    try:
        with torch.device("meta"):
            network = build(described["architecture"], described["arguments"])
        normalisation = Normalisation(**described["normalisation"])
        quantity, options = str(described["quantity"]), dict(described["options"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: not a model this version can build ({error}); train it again") from None
    _check_shapes(path, described["architecture"], network.state_dict(), tensors)
    network.load_state_dict(tensors, assign=True)
    return Model(task, network.eval().requires_grad_(False), normalisation, quantity, options)


class CheckpointFolder:
    """Keeps the state of one unfinished training, as the `Checkpoints` of `xrmflow.networks.training`.

    The folder must not be declared to the workflow, which deletes declared outputs of failed jobs.

    Args:
        folder: where; created when needed.
        key: identifies training data and settings: a state kept under another key is not resumed from.
    """

    def __init__(self, folder: Path, *, key: str) -> None:
        self._folder, self._file, self._key = folder, folder / "state.safetensors", key

    def load(self) -> dict[str, Tensor] | None:
        """The state kept last, or None where there is none that belongs to this training."""
        try:
            with safe_open(self._file, framework="pt") as file:
                if (file.metadata() or {}).get("key") != self._key:
                    logger.info(
                        "%s: kept by another training (data, settings or code differ); starting anew", self._file
                    )
                    return None
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            return None
        except SafetensorError as error:
            logger.warning("%s: unreadable checkpoint (%s); starting anew", self._file, error)
            return None
        logger.info("%s: resuming at step %d", self._file, int(state["step"]))
        return state

    def save(self, state: dict[str, Tensor], /) -> None:
        """Replace the state kept before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_durably(self._file, save(state, metadata={"key": self._key}))

    def discard(self) -> None:
        """Delete the folder, once the trained network is safe."""
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def training_checkpoints(model: Path, provenance: dict[str, Any]) -> Iterator[CheckpointFolder]:
    """Checkpoints beside the model, deleted when the block ends without an exception.

    They are resumed from by a training of the same stage, settings, inputs and code alone.
    """
    folder = CheckpointFolder(model.with_name(f"{model.name}.checkpoints"), key=training_key(provenance))
    yield folder
    folder.discard()


def training_key(provenance: dict[str, Any]) -> str:
    """Digest of what decides the result of a training: stage, settings, content of the inputs, code."""
    inputs = json.dumps(provenance["inputs"], sort_keys=True)
    what = [provenance["stage"], provenance["settings"], inputs, provenance["lineage"], provenance["xrmflow"]]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _describe(model: Model) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "task": model.task,
        "architecture": name_of(model.network),
        "arguments": model.network.arguments,
        "normalisation": model.normalisation.to_dict(),
        "quantity": model.quantity,
        "options": model.options,
    }


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise StoreError(f"{path}: no such model; train one, or correct the path") from None
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path}: expected weights as safetensors, got {_looks_like(path)} ({error})") from None
    try:
        described = parse(header or "")
    except ValueError:
        raise StoreError(
            f"{path}: expected weights written by xrmflow, got none of its header; train the model again"
        ) from None
    if not isinstance(described, dict) or not is_known(described.get("format"), FORMAT):
        raise StoreError(f"{path}: written by a newer version of xrmflow; update it")
    return described, tensors


def _looks_like(path: Path) -> str:
    """What a file that is not safetensors seems to be."""
    if path.is_dir():
        return "a folder"
    with path.open("rb") as file:
        start = file.read(4)
    pickled = start[:2] == b"PK" or start[:1] == b"\x80"
    return "a pickle, which can run code and is not opened" if pickled else "a damaged or foreign file"


def _check_card(path: Path) -> None:
    card = path.with_suffix(".json")
    if not card.is_file():
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    expected = read_document(card, "model").get("sha256")
    if digest != expected:
        raise StoreError(
            f"{path}: does not belong to its card {card.name} (sha256 {digest[:12]}, card says {str(expected)[:12]})"
        )


def _check_shapes(path: Path, architecture: str, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    for name in sorted(expected.keys() | found.keys()):
        wanted, got = (str(tuple(t[name].shape)) if name in t else "none" for t in (expected, found))
        if wanted != got:
            raise StoreError(
                f"{path}: does not fit its architecture {architecture}: {name}: expected {wanted}, got {got}"
            )
        if found[name].dtype != torch.float32 or not bool(torch.isfinite(found[name]).all()):
            raise StoreError(f"{path}: {name}: expected finite float32 weights, got others; train the model again")
