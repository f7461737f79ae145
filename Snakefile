"""xrmflow: from raw X-ray microscopy scans to a bone report.

    snakemake --cores 2 --config settings=config/config.yaml

One rule a stage; docs/design.md lists what each reads and writes.
"""

from snakemake.utils import min_version

min_version("9.18")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/ingest.smk"
include: "workflow/rules/correction.smk"
include: "workflow/rules/reconstruction.smk"
include: "workflow/rules/parts.smk"
include: "workflow/rules/denoising.smk"
include: "workflow/rules/superresolution.smk"
include: "workflow/rules/morphometry.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        durable_results(),
        nothing_but_force_the_unknown,


onstart:
    RUN.begin(workflow.resource_settings.cores, scans_written_anew())


onsuccess:
    RUN.end()


onerror:
    end_with_failures(log)
