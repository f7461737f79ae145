"""The whole settings file: one section a stage, and what concerns the run."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from xrmflow.config.align import AlignSection
from xrmflow.config.collect import CollectSection
from xrmflow.config.cupping import CuppingSection
from xrmflow.config.cupping_protocol import CuppingProtocolSection
from xrmflow.config.fdk import FdkSection
from xrmflow.config.flatfield import FlatfieldSection
from xrmflow.config.import_volume import ImportVolumeSection
from xrmflow.config.ingest import IngestSection
from xrmflow.config.iterative import IterativeSection
from xrmflow.config.jobs import JobsSection
from xrmflow.config.morphometry import MorphometrySection
from xrmflow.config.n2i_apply import N2iApplySection
from xrmflow.config.n2i_split import N2iSplitSection
from xrmflow.config.n2i_train import N2iTrainSection
from xrmflow.config.report import ReportSection
from xrmflow.config.section import Section
from xrmflow.config.segment import SegmentSection
from xrmflow.config.sr_apply import SrApplySection
from xrmflow.config.sr_train import SrTrainSection
from xrmflow.config.storage import StorageSection
from xrmflow.config.validate import ValidateSection


def _folder(name: str) -> str:
    """The one way in which its path is written: names of results are compared as text."""
    folder = PurePosixPath(name).as_posix()
    if not name.strip() or folder == "." or name.startswith("~") or set(name) & set("{}"):
        raise ValueError(f"expected the name of a folder of its own, written out (no ~, no braces), got {name!r}")
    return folder


Folder = Annotated[str, AfterValidator(_folder)]


class Settings(Section):
    """Everything a run can be told. Each stage sees only its own section."""

    scans: str = Field(default="scans.tsv", description="Table of scans, path from the folder of the settings file.")
    results: Folder = Field(default="results", description="Folder for results, path from where snakemake is started.")
    models: Folder = Field(
        default="models", description="Folder for trained networks, path from where snakemake is started."
    )
    model: str = Field(
        default="default",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
        description="Id of the networks trained in this run: they are kept in <models>/<model>/.",
    )
    trained_n2i: str | None = Field(
        default=None,
        description="Weights (.safetensors) of an earlier Noise2Inverse training, applied instead of training one.",
    )
    trained_sr: str | None = Field(
        default=None,
        description="Weights (.safetensors) of an earlier super-resolution training to apply, instead of training.",
    )
    measure: tuple[Literal["volume", "iterative", "denoised", "superres"], ...] = Field(
        default=("volume", "denoised", "superres"),
        description=(
            "Volumes that are measured, side by side: volume (FDK), iterative (reconstructed by iteration, only where "
            "named here), denoised (Noise2Inverse), superres (super-resolution)."
        ),
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where numerics run; auto takes a GPU when the job was given one. Never causes a rerun.",
    )
    storage: StorageSection = StorageSection()
    jobs: JobsSection = JobsSection()

    ingest: IngestSection = IngestSection()
    import_volume: ImportVolumeSection = ImportVolumeSection()
    flatfield: FlatfieldSection = FlatfieldSection()
    align: AlignSection = AlignSection()
    cupping: CuppingSection = CuppingSection()
    cupping_protocol: CuppingProtocolSection = CuppingProtocolSection()
    fdk: FdkSection = FdkSection()
    iterative: IterativeSection = IterativeSection()
    n2i_split: N2iSplitSection = N2iSplitSection()
    n2i_train: N2iTrainSection = N2iTrainSection()
    n2i_apply: N2iApplySection = N2iApplySection()
    sr_train: SrTrainSection = SrTrainSection()
    sr_apply: SrApplySection = SrApplySection()
    segment: SegmentSection = SegmentSection()
    morphometry: MorphometrySection = MorphometrySection()
    validate_: ValidateSection = Field(default=ValidateSection(), alias="validate")
    collect: CollectSection = CollectSection()
    report: ReportSection = ReportSection()

    @field_validator("measure")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) < len(names):
            raise ValueError(f"expected at least one volume, and each once, got {', '.join(names) or 'none'}")
        return names

    def section(self, stage: str) -> Section:
        """The section of a stage, by its name."""
        return self.validate_ if stage == "validate" else getattr(self, stage)
