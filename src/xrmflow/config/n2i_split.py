"""Settings of n2i_split: reconstructions of interleaved views."""

from pydantic import Field

from xrmflow.config.section import Section


class N2iSplitSection(Section):
    """How the views are divided for Noise2Inverse; grid and filter are those of fdk."""

    splits: int = Field(
        default=4,
        ge=2,
        le=16,
        description="Number of interleaved sets of views that are reconstructed each on their own. More splits give "
        "cleaner inputs and noisier targets, and more streaks where views are few.",
    )
    memory_gb: float = Field(
        default=4.0,
        gt=0,
        le=10_000,
        description="Memory the stage may use, 1e9 bytes; larger reconstructions are cut into slabs.",
    )
