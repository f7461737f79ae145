"""Settings of n2i_train: learning to denoise from noisy scans."""

from typing import Literal

from pydantic import Field

from xrmflow.config.training import TrainingSection


class N2iTrainSection(TrainingSection):
    """Network and training of Noise2Inverse."""

    geometry_check: Literal["warn", "refuse", "ignore"] = Field(
        default="warn",
        description="What to do before the training when a scan's alignment score says that its geometry is off: "
        "blurred or doubled edges are learnt, and found out only afterwards.",
    )
    geometry_limit_px: float = Field(
        default=0.5,
        gt=0,
        description="Largest alignment score (rms displacement of the views against their volume, detector pixels, "
        "from align) that is taken for a good geometry.",
    )
