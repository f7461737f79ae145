"""The one training loop: seeded, resumable bit for bit, with a moving average of the weights.

Each step draws its batch from the number of the step alone, so a checkpoint needs no random state: weights, their
moving average, the two moments of Adam, the losses so far. The same seed and the same number of threads give the same
weights, interrupted or not.

Sources: Adam, Kingma & Ba, ICLR 2015; cosine decay, Loshchilov & Hutter, ICLR 2017; weight averaging, Polyak &
Juditsky, SIAM J. Control Optim. 30:838 (1992).
"""

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from xrmflow.arrays import Track, untracked
from xrmflow.errors import UserError
from xrmflow.networks.slicenet import SliceNetwork

Draw = Callable[[int], tuple[Tensor, Tensor]]
Precision = Literal["auto", "float32", "bfloat16"]

VALIDATION_BATCHES = 8


class Checkpoints(Protocol):
    """Where the state of an unfinished training is kept."""

    def load(self) -> dict[str, Tensor] | None: ...

    def save(self, state: dict[str, Tensor], /) -> None: ...


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        steps: number of updates.
        batch: patches in an update.
        patch_px: edge of a patch, pixels; reduced to the smallest slice, and to a multiple of the pooling factor.
        features: features of the U-Net at full resolution.
        levels: halvings of the U-Net.
        neighbours: slices on each side as further input; reduced to what every volume has around a slice.
        seed: decides initial weights and all patches.
        learning_rate: peak of the schedule: linear rise over the first 5 %, then half a cosine down to zero.
        average: decay of the moving average of the weights, per step; less at the start.
        record_steps: the losses are recorded, and a checkpoint is kept, after each so many steps.
        precision: "float32", "bfloat16" (multiplications only), or "auto": bfloat16 where the processor has it.
        max_minutes: stop early after so long; the result then depends on the machine's speed.
        memory_gb: allowance for training volumes held in memory, 1e9 bytes.
    """

    steps: int
    batch: int = 8
    patch_px: int = 64
    features: int = 16
    levels: int = 2
    neighbours: int = 3
    seed: int = 0
    learning_rate: float = 3e-3
    average: float = 0.995
    record_steps: int = 100
    precision: Precision = "auto"
    max_minutes: float | None = None
    memory_gb: float = 4.0


@dataclass
class Losses:
    """Mean squared errors against noisy targets: their floor is the noise of the target, not zero.

    Attributes:
        step: after how many updates the following were recorded.
        train: mean since the record before.
        validation: of the averaged weights, on batches never trained on; empty without such.
        precision: number format of the multiplications that were done.
    """

    step: list[int] = field(default_factory=list)
    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    precision: str = "float32"

    def to_dict(self) -> dict[str, list]:
        """The curves as a plain JSON-ready record."""
        return {"step": list(self.step), "train": list(self.train), "validation": list(self.validation)}


def train(
    network: SliceNetwork,
    draw: Draw,
    *,
    plan: Plan,
    validate: Draw | None = None,
    checkpoints: Checkpoints | None = None,
    device: torch.device | str = "cpu",
    track: Track = untracked,
    label: str = "training",
) -> tuple[SliceNetwork, Losses]:
    """Minimise the mean squared error of `network` by Adam.

    Args:
        network: (n, channels, y, x) -> (n, 1, y, x); it is not changed.
        draw: number of the step -> a batch (input, target); must depend on nothing but that number.
        plan: see `Plan`.
        validate: as `draw`, for batches that are never trained on.
        checkpoints: where to resume from and to keep the state of an unfinished training.
        device: of the training.
        track: progress.
        label: what progress is called.

    Returns:
        The network with averaged weights, on the CPU and in evaluation mode, and the losses.

    Raises:
        UserError: the loss became NaN or infinite.
    """
    state = _State(network, device)
    saved = checkpoints.load() if checkpoints else None
    if saved is not None:
        state.restore(saved)
    dtype = autocast_dtype(plan.precision, device)
    state.losses.precision = str(dtype).removeprefix("torch.")
    begin, window = time.monotonic(), []
    for step in track(range(state.step, plan.steps), label=label):
        window.append(_update(state, draw(step), plan, step, dtype))
        late = plan.max_minutes is not None and time.monotonic() - begin > 60 * plan.max_minutes
        if (step + 1) % plan.record_steps == 0 or step + 1 == plan.steps or late:
            _record(state, window, validate, plan, dtype)
            window = []
            if checkpoints and step + 1 < plan.steps and not late:
                checkpoints.save(state.tensors())
        if late:
            break
    return state.average.eval().cpu(), state.losses


def autocast_dtype(precision: Precision, device: torch.device | str) -> torch.dtype:
    """What multiplications are done in: bfloat16 for "auto" only where the processor multiplies it natively."""
    if precision == "auto":
        native = torch.device(device).type == "cuda" or _cpu_multiplies_bfloat16()
        return torch.bfloat16 if native else torch.float32
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"precision: expected auto, float32 or bfloat16, got {precision!r}")
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def run_network(network: SliceNetwork, image: Tensor, dtype: torch.dtype) -> Tensor:
    """Apply a network with its multiplications in `dtype`; the result is float32."""
    with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        return network(image).float()


def _cpu_multiplies_bfloat16() -> bool:
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())


class _State:
    """Everything a training is made of: weights, their average, Adam's moments, step, losses."""

    def __init__(self, network: SliceNetwork, device: torch.device | str) -> None:
        self.network = deepcopy(network).to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.average = deepcopy(self.network).requires_grad_(False)
        self.parameters = list(self.network.parameters())
        self.optimiser = torch.optim.Adam(self.parameters, betas=(0.9, 0.99))
        for p in self.parameters:
            self.optimiser.state[p] = {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }
        self.step = 0
        self.losses = Losses()

    def tensors(self) -> dict[str, Tensor]:
        """The state as named tensors."""
        named = {"step": torch.tensor(self.step), "losses.step": torch.tensor(self.losses.step, dtype=torch.int64)}
        for name in ("train", "validation"):
            named[f"losses.{name}"] = torch.tensor(getattr(self.losses, name), dtype=torch.float64)
        return named | {name: tensor.detach().cpu().contiguous() for name, tensor in self._large().items()}

    def restore(self, named: dict[str, Tensor]) -> None:
        """Take over a state written by `tensors`, in place, so that memory layouts stay as they are."""
        self.step = int(named["step"])
        for p in self.parameters:
            self.optimiser.state[p]["step"].fill_(float(self.step))
        for name, tensor in self._large().items():
            tensor.detach().copy_(named[name])
        for name in ("step", "train", "validation"):
            setattr(self.losses, name, named[f"losses.{name}"].tolist())

    def _large(self) -> dict[str, Tensor]:
        named: dict[str, Tensor] = {}
        for (name, p), a in zip(self.network.named_parameters(), self.average.parameters(), strict=True):
            moments = self.optimiser.state[p]
            named |= {f"network.{name}": p, f"average.{name}": a}
            named |= {f"first.{name}": moments["exp_avg"], f"second.{name}": moments["exp_avg_sq"]}
        return named


def _update(state: _State, batch: tuple[Tensor, Tensor], plan: Plan, step: int, dtype: torch.dtype) -> float:
    """One step of Adam and of the moving average; returns the loss before it."""
    for group in state.optimiser.param_groups:
        group["lr"] = plan.learning_rate * _schedule(step, plan.steps)
    loss = _loss(state.network, batch, dtype)
    value = loss.item()
    if not math.isfinite(value):
        raise UserError(
            f"training: expected a finite loss, got {value} at step {step}; "
            f"lower learning_rate (now {plan.learning_rate:g}) or look for NaN in the training volumes"
        )
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    state.optimiser.step()
    weight = 1 - min(plan.average, (1 + step) / (10 + step))
    with torch.no_grad():
        for average, parameter in zip(state.average.parameters(), state.parameters, strict=True):
            average.lerp_(parameter, weight)
    state.step = step + 1
    return value


def _schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate at a step."""
    rise = max(1, steps // 20)
    return min(1.0, (step + 1) / rise) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _loss(network: SliceNetwork, batch: tuple[Tensor, Tensor], dtype: torch.dtype) -> Tensor:
    device = next(network.parameters()).device
    image = batch[0].to(device).contiguous(memory_format=torch.channels_last)
    return torch.mean((run_network(network, image, dtype) - batch[1].to(device)) ** 2)


def _record(state: _State, window: list[float], validate: Draw | None, plan: Plan, dtype: torch.dtype) -> None:
    """Note the mean loss since the last record, and the validation loss of the averaged weights."""
    state.losses.step.append(state.step)
    state.losses.train.append(sum(window) / len(window))
    if validate is not None:
        with torch.no_grad():
            losses = [_loss(state.average, validate(i), dtype).item() for i in range(VALIDATION_BATCHES)]
        state.losses.validation.append(sum(losses) / len(losses))
