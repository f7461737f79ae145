"""Settings of what is kept on disk."""

from typing import Literal

from pydantic import Field

from xrmflow.config.section import Section


class StorageSection(Section):
    """Which intermediate stores outlive the run."""

    keep: Literal["final", "standard", "all"] = Field(
        default="standard",
        description=(
            "What outlives the run. final: volumes, masks, tables, models and reports; standard: also the corrected "
            "projections and the "
            "Noise2Inverse splits, so that a changed setting reruns only what it must; all: also the ingested raw "
            "data. What is not kept is deleted as soon as every stage that reads it is done."
        ),
    )
    check_free_space: bool = Field(
        default=True,
        description="Refuse to start when the estimated peak does not fit on the disk that holds the results.",
    )
