"""The steps of a run, and what each reads: the graph that lineages follow.

The rules of the workflow say the same of files; a test holds the two together.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xrmflow.manage.plan import Plan

# In the order of the data.
STAGES = (
    *("ingest", "import_volume", "flatfield", "align", "cupping", "cupping_protocol", "fdk", "iterative"),
    *("n2i_split", "n2i_train", "n2i_apply", "sr_train", "sr_apply"),
    *("segment", "morphometry", "validate", "collect", "report"),
)
# The stage that writes each volume that can be measured.
WRITERS = {"volume": "fdk", "iterative": "iterative", "denoised": "n2i_apply", "superres": "sr_apply"}
# Stages that read one other, of the same scan and volume.
BEFORE = {
    "flatfield": "ingest",
    "align": "flatfield",
    "cupping": "align",
    "iterative": "fdk",
    "n2i_split": "fdk",
    "morphometry": "segment",
}


@dataclass(frozen=True)
class Step:
    """One job of a run.

    Attributes:
        stage: its name.
        scan: id; "" for what several scans share.
        volume: which it works on, for `segment` and `morphometry`.
        protocol: for `cupping_protocol`.
    """

    stage: str
    scan: str = ""
    volume: str = ""
    protocol: str = ""


def steps_above(plan: "Plan", step: Step) -> dict[str, Step]:
    """The steps whose results a step reads, by what each is to it.

    Of a step on one scan these names do not tell the scan, so that scans treated alike are told apart by nothing.
    What several scans feed names each of them, and what for: exchanging two scans is a change.
    """
    if step.stage in BEFORE:
        return _by_stage([Step(BEFORE[step.stage], step.scan, step.volume)])
    reads = _READS.get(step.stage)
    return reads(plan, step) if reads else {}


def _cupping_protocol(plan: "Plan", step: Step) -> dict[str, Step]:
    return {f"cupping of {scan}": Step("cupping", scan) for scan in plan.protocols[step.protocol]}


def _fdk(plan: "Plan", step: Step) -> dict[str, Step]:
    protocol = plan.protocol_of(step.scan)
    shared = [Step("cupping_protocol", protocol=protocol)] if protocol else []
    return _by_stage([Step("cupping", step.scan), *shared])


def _n2i_train(plan: "Plan", _: Step) -> dict[str, Step]:
    uses = {"n2i_split of {}": ("train", "train-only"), "n2i_split of {} (validation)": ("validation",)}
    return {
        name.format(scan): Step("n2i_split", scan) for name, roles in uses.items() for scan in plan.with_role(*roles)
    }


def _n2i_apply(plan: "Plan", step: Step) -> dict[str, Step]:
    return _by_stage([Step("n2i_split", step.scan), *[Step("n2i_train")] * plan.trains_n2i])


def _sr_train(plan: "Plan", _: Step) -> dict[str, Step]:
    low = {f"low resolution of {scan}": _best(plan, scan) for scan in plan.pairs}
    high = {f"high resolution of {scan} ({partner})": Step("fdk", partner) for scan, partner in plan.pairs.items()}
    return low | high


def _sr_apply(plan: "Plan", step: Step) -> dict[str, Step]:
    return _by_stage([_best(plan, step.scan), *[Step("sr_train")] * plan.trains_sr])


def _segment(plan: "Plan", step: Step) -> dict[str, Step]:
    return _by_stage([_volume(plan, step.scan) if step.volume == "volume" else Step(WRITERS[step.volume], step.scan)])


def _validate(plan: "Plan", step: Step) -> dict[str, Step]:
    return _by_stage([Step("fdk", step.scan)]) | _measurements(plan, step.scan)


def _report(plan: "Plan", step: Step) -> dict[str, Step]:
    compared = [Step("validate", step.scan)] * plan.is_simulated(step.scan)
    return _by_stage([_volume(plan, step.scan), *compared]) | _measurements(plan, step.scan)


def _collect(plan: "Plan", _: Step) -> dict[str, Step]:
    return {f"{name} of {scan}": step for scan in plan.scans for name, step in _measurements(plan, scan).items()}


_READS: dict[str, Callable[["Plan", Step], dict[str, Step]]] = {
    "cupping_protocol": _cupping_protocol,
    "fdk": _fdk,
    "n2i_train": _n2i_train,
    "n2i_apply": _n2i_apply,
    "sr_train": _sr_train,
    "sr_apply": _sr_apply,
    "segment": _segment,
    "validate": _validate,
    "collect": _collect,
    "report": _report,
}


def _volume(plan: "Plan", scan: str) -> Step:
    """What writes a scan's volume."""
    return Step("import_volume" if plan.imports(scan) else "fdk", scan)


def _best(plan: "Plan", scan: str) -> Step:
    """What writes the volume that super-resolution works on."""
    return Step("n2i_apply" if plan.has_n2i else "fdk", scan)


def _measurements(plan: "Plan", scan: str) -> dict[str, Step]:
    return {f"morphometry ({volume})": Step("morphometry", scan, volume) for volume in plan.measured(scan)}


def _by_stage(steps: Iterable[Step]) -> dict[str, Step]:
    return {step.stage: step for step in steps}
