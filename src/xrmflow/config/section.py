"""The base of every settings section."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One section of the settings file: frozen, strict, unknown keys refused.

    Each field carries a description that states its unit; `config/README.md` is generated from them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def canonical(self) -> str:
        """The section as one JSON line, keys sorted: what a rule passes to its stage."""
        import json

        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
