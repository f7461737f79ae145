"""Settings of validate: how close to the known answer of a simulated scan results must be."""

from pydantic import Field

from xrmflow.config.section import Section


class ValidateSection(Section):
    """Limits of the comparison with a simulated scan's truth."""

    centre_px: float = Field(
        default=0.25, gt=0, description="Largest error of the centre of rotation, detector pixels."
    )
    attenuation_percent: float = Field(
        default=3.0, gt=0, description="Largest error of the mean attenuation inside bone, percent of the truth."
    )
    bone_fraction_percent: float = Field(default=5.0, gt=0, description="Largest error of BV/TV, percent of the truth.")
    denoising_gain_db: float = Field(
        default=1.0,
        description="Least PSNR of the denoised volume above the best Gaussian and the best non-local means filter, "
        "dB.",
    )
    superres_gain_db: float = Field(
        default=0.1, description="Least PSNR of the super-resolved volume above cubic interpolation of its input, dB."
    )
    lacuna_f1: float = Field(default=0.8, ge=0, le=1, description="Least F1 score of finding lacunae, 0 to 1.")
    lacuna_reach: float = Field(
        default=1.0,
        gt=0,
        description="A lacuna counts as found when a centroid lies within so many radii of a ball of its volume.",
    )
    border_slices: int = Field(
        default=8,
        ge=0,
        description="Slices left out at both ends, where shifted views and the cone see too little, voxels.",
    )
    erosion_voxels: int = Field(
        default=2, ge=0, description="Depth below the surface of bone from which its mean attenuation is taken, voxels."
    )
    filter_slices: int = Field(
        default=12, ge=1, description="Central slices on which filters are tuned and all PSNR are compared, voxels."
    )
