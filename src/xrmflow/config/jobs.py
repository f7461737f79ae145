"""Settings of how work is cut into jobs."""

from pydantic import Field

from xrmflow.config.section import Section


class JobsSection(Section):
    """How the work on large scans is cut into jobs."""

    part_gb: float = Field(
        default=8.0,
        gt=0,
        le=10_000,
        description=(
            "The most that one job writes of a volume or of projections, 1e9 bytes. Larger ones are made in parts by "
            "jobs of their own, side by side where there are cores or nodes, and put together without copying; smaller "
            "ones by a single job. What is lost when a job is killed is one part. Parts are whole layers of 64 slices "
            "or rows, at least one. Of larger volumes the thickness of bone and of marrow is measured by a job each. "
            "Never causes a rerun: the result is the same bit by bit."
        ),
    )
