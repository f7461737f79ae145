"""The architectures by the name that model files carry."""

from typing import Any

import torch

from xrmflow.networks.slicenet import SliceNetwork
from xrmflow.networks.training import Plan
from xrmflow.networks.unet import UNet

ARCHITECTURES: dict[str, type[SliceNetwork]] = {"unet": UNet}


def build(architecture: str, arguments: dict[str, Any]) -> SliceNetwork:
    """A fresh network.

    Raises:
        ValueError: an unknown name, or arguments the architecture does not take.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture: expected one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
    try:
        return ARCHITECTURES[architecture](**arguments)
    except TypeError as error:
        raise ValueError(f"arguments of {architecture}: {error}") from None


def fresh_network(plan: Plan, *, residual: bool) -> SliceNetwork:
    """The untrained U-Net of a training plan; its initial weights are decided by the plan's seed."""
    torch.manual_seed(plan.seed)
    arguments = {"channels": 2 * plan.neighbours + 1, "features": plan.features, "levels": plan.levels}
    arguments |= {"residual": residual}
    return build("unet", arguments)


def name_of(network: SliceNetwork) -> str:
    """The name under which `build` makes this kind of network."""
    for name, kind in ARCHITECTURES.items():
        if type(network) is kind:
            return name
    raise ValueError(f"network: expected one of {', '.join(ARCHITECTURES)}, got {type(network).__name__}")
