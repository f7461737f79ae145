"""Settings of collect: the tables of a whole study."""

from pydantic import Field

from xrmflow.config.section import Section


class CollectSection(Section):
    """What the tables of all scans hold."""

    symbols: tuple[str, ...] = Field(
        default=(),
        description="Symbols of the indices to keep, such as BV/TV or Tb.Th, in the order of the wide table's columns "
        "(names); empty: all, in the order of morphometry.",
    )
