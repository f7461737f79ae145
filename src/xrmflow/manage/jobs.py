"""The jobs of a whole run, from the raw files on, without Snakemake: what the rules would ask for."""

from typing import TYPE_CHECKING

from xrmflow.manage.steps import Step

if TYPE_CHECKING:
    from xrmflow.manage.plan import Plan


def planned_jobs(plan: "Plan") -> list[Step]:
    """Every job of a run that starts with nothing."""
    jobs = [Step(stage, scan) for scan in plan.scans for stage in _stages(plan, scan)]
    for scan in plan.scans:
        pairs = [(stage, volume) for volume in plan.measured(scan) for stage in ("segment", "morphometry")]
        jobs += [Step(stage, scan, volume) for stage, volume in pairs]
    jobs += [Step("cupping_protocol", protocol=protocol) for protocol in plan.protocols]
    jobs += [Step("n2i_train")] * plan.trains_n2i + [Step("sr_train")] * plan.trains_sr
    return jobs + [Step("collect")] * any(plan.is_measured(scan) for scan in plan.scans)


def _stages(plan: "Plan", scan: str) -> list[str]:
    """Stages that run once for a scan."""
    if plan.imports(scan):
        return ["import_volume", *["report"] * plan.is_measured(scan)]
    measured, denoised = plan.is_measured(scan), _is_denoised(plan, scan)
    wanted = {
        "ingest": True,
        "flatfield": True,
        "align": True,
        "cupping": True,
        "fdk": True,
        "iterative": plan.is_iterated(scan),
        "n2i_split": denoised or _teaches(plan, scan) or (measured and plan.has_n2i and plan.keeps("standard")),
        "n2i_apply": denoised,
        "sr_apply": plan.is_superresolved(scan),
        "validate": measured and plan.is_simulated(scan),
        "report": measured,
    }
    return [stage for stage, runs in wanted.items() if runs]


def _is_denoised(plan: "Plan", scan: str) -> bool:
    """Whether a scan has a denoised volume: measured, or what super-resolution starts from or learns from."""
    refined = plan.is_superresolved(scan) or (plan.trains_sr and scan in plan.pairs)
    return plan.is_denoised(scan) or (plan.has_n2i and refined)


def _teaches(plan: "Plan", scan: str) -> bool:
    return plan.trains_n2i and plan.scans[scan].role in ("train", "train-only", "validation")
