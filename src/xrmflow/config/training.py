"""What the settings of every network's training share."""

from typing import Literal

from pydantic import Field

from xrmflow.config.section import Section


class TrainingSection(Section):
    """The training loop; the size of the network and of its patches."""

    steps: int = Field(
        default=10_000,
        ge=1,
        le=100_000_000,
        description="Number of updates. One of 8 patches of 64 x 64 pixels takes 15 to 40 ms on two free CPU cores.",
    )
    features: int = Field(default=16, ge=1, le=256, description="Features of the U-Net at full resolution.")
    levels: int = Field(default=2, ge=0, le=6, description="How often the U-Net halves the image.")
    neighbours: int = Field(
        default=3,
        ge=0,
        le=16,
        description="Slices on each side of the predicted one that the network also sees; reduced where a volume has "
        "too few slices (two slices: none).",
    )
    patch_px: int = Field(
        default=64, ge=8, le=4096, description="Edge of the training patches, pixels; at most the slice."
    )
    batch: int = Field(default=8, ge=1, le=4096, description="Patches in each update.")
    learning_rate: float = Field(
        default=3e-3, gt=0, le=1, description="Peak learning rate of Adam (no unit); it falls to 0 along a cosine."
    )
    average: float = Field(
        default=0.995, ge=0, lt=1, description="Decay of the moving average of the weights, per update (0: none)."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Decides initial weights and all patches.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Number format of multiplications: auto takes bfloat16 where the processor has it, which is "
        "faster; weights stay float32.",
    )
    record_steps: int = Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="Losses are recorded, and a state to resume from is kept, each time after so many updates.",
    )
    max_minutes: float | None = Field(
        default=None,
        gt=0,
        description="Stop after so many minutes even if updates are left; null trains all of them. With a limit the "
        "result depends on the speed of the machine.",
    )
    memory_gb: float = Field(
        default=4.0,
        gt=0,
        le=10_000,
        description="Memory for training volumes, 1e9 bytes; of more than fits, random parts are held in turn.",
    )
