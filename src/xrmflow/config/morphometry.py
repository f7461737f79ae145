"""Settings of morphometry: bone numbers from a segmented volume."""

from pydantic import Field

from xrmflow.config.section import Section


class MorphometrySection(Section):
    """What is measured; threshold, calibration and volume of interest are those of segment."""

    thickness: bool = Field(default=True, description="Whether to measure Tb.Th and Tb.Sp (true or false).")
    lacunae: bool = Field(default=True, description="Whether to measure lacunae (true or false).")
    least_slices: int = Field(
        default=8,
        ge=2,
        description="With fewer slices in the volume of interest (count), what needs three dimensions is skipped, with "
        "the reason in the table.",
    )
    correct_blur: bool = Field(
        default=True,
        description="Whether thickness allows for the blur measured at the edges of bone, which moves curved surfaces "
        "to their hollow side (true or false).",
    )
    trabecula_um: float | None = Field(
        default=None,
        gt=0,
        description="Thickness of the thickest trabeculae, micrometres: bone thinner than this with marrow on both "
        "sides is trabecular, the rest cortical, and each gets its own rows; null: they are not told apart.",
    )
    trabecula_voxels: float | None = Field(
        default=None, gt=0, description="The same in voxels; used for scans without a voxel size only."
    )
    core_erosion_voxels: int = Field(
        default=2,
        ge=0,
        le=20,
        description="Bone within so many voxels of its surface does not count towards mean attenuation and TMD.",
    )
    memory_gb: float = Field(
        default=4.0,
        gt=0,
        le=10_000,
        description="Memory for arrays, 1e9 bytes, beside the program's own; of volumes that need more (40 bytes a "
        "voxel) some slices at a time are held, and the rest lies on the disk of the results meanwhile.",
    )
