"""Settings of sr_train: learning super-resolution from pairs of scans."""

from pydantic import Field

from xrmflow.config.training import TrainingSection


class SrTrainSection(TrainingSection):
    """Network and training of super-resolution; patches and neighbours are those of the fine grid."""

    factor: int = Field(
        default=2,
        ge=1,
        le=8,
        description="Voxel size of the low-resolution over that of the high-resolution volumes; the output is so many "
        "times finer.",
    )
