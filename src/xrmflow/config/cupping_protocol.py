"""Settings of cupping_protocol: one beam-hardening correction for all scans of a protocol."""

from typing import Literal

from pydantic import Field

from xrmflow.config.section import Section


class CuppingProtocolSection(Section):
    """One correction of beam hardening for all scans that the table of scans gives the same `protocol`."""

    scope: Literal["protocol", "scan"] = Field(
        default="protocol",
        description="Which scans share a correction: those of the same protocol in the table of scans (protocol; a "
        "scan that names none keeps its own), or none (scan).",
    )
