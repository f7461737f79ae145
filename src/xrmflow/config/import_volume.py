"""Settings of import_volume: a volume that is reconstructed already."""

from pydantic import Field

from xrmflow.config.section import Section


class ImportVolumeSection(Section):
    """What grey values of a Zeiss .txm volume mean; a Scanco .isq says so itself and does not ask."""

    slope_per_mm: float | None = Field(
        default=None,
        description="Attenuation per mm of one grey level of a .txm, which does not record it: from a phantom or a "
        "region of known attenuation. Needed for such volumes.",
    )
    intercept_per_mm: float = Field(default=0.0, description="Attenuation per mm of grey level 0 of a .txm.")
