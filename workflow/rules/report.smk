# Everything -> report.html. Only what every storage.keep level keeps is read here: a new page costs a page.


rule validate:
    input:
        truth=truth,
        geometry=GEOMETRY,
        volume=VOLUME,
        iterative=when(ITERATIVE, PLAN.is_iterated),
        denoised=when(DENOISED, PLAN.is_denoised),
        superres=when(SUPERRES, PLAN.is_superresolved),
        bones=measured(BONE),
        morphometry=measured(TABLE),
        lacunae=measured(LACUNAE),
    output:
        validation=report(
            VALIDATION,
            caption="../report/validation.rst",
            category="{scan}",
            labels={"volume": "all", "what": "comparison with the simulated truth"},
        ),
    log:
        f"{SCAN}/logs/validate.log",
    benchmark:
        f"{SCAN}/benchmarks/validate.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("validate")
    resources:
        mem_mb=PLAN.memory_mb("validate"),
        runtime=PLAN.minutes("validate"),
    params:
        section=section("validate"),
        lineage=lineage("validate"),
    message:
        "{wildcards.scan}: comparing with the simulated truth"
    shell:
        "xrmflow validate --truth {input.truth:q} --geometry {input.geometry:q} --volume {input.volume:q} "
        "--iterative {input.iterative:q} --denoised {input.denoised:q} --superres {input.superres:q} "
        "--bones {input.bones:q} --morphometry {input.morphometry:q} --lacunae {input.lacunae:q} "
        "--validation {output.validation:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"


rule collect:
    input:
        tables=all_measured(TABLE),
        scans=str(PLAN.table),
    output:
        table=report(
            STUDY,
            caption="../report/collect.rst",
            category="study",
            labels={"volume": "all", "what": "bone morphometry of all scans"},
        ),
        wide=report(
            STUDY_WIDE,
            caption="../report/collect.rst",
            category="study",
            labels={"volume": "all", "what": "bone morphometry, one row a scan"},
        ),
    log:
        f"{PLAN.settings.results}/logs/collect.log",
    benchmark:
        f"{PLAN.settings.results}/benchmarks/collect.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    resources:
        mem_mb=PLAN.memory_mb("collect"),
        runtime=PLAN.minutes("collect"),
    params:
        section=section("collect"),
        lineage=lineage("collect"),
    message:
        "putting the bone numbers of all scans into one table"
    shell:
        "xrmflow collect --tables {input.tables:q} --scans {input.scans:q} "
        "--table {output.table:q} --wide {output.wide:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"


rule report:
    input:
        flatfield=when(FLATFIELD, PLAN.reconstructs),
        views=when(VIEWS, PLAN.reconstructs),
        geometry=when(GEOMETRY, PLAN.reconstructs),
        sweep=when(SWEEP, PLAN.reconstructs),
        cupping=cupping,
        cupping_slices=when(CUPPING_SLICES, PLAN.reconstructs),
        volumes=measured(STORE),
        bones=measured(BONE),
        tables=measured(TABLE),
        slice_tables=measured(SLICES),
        lacuna_tables=measured(LACUNAE),
        models=lambda wildcards: PLAN.cards(wildcards.scan, N2I_CARD, SR_CARD),
        validation=when(VALIDATION, PLAN.is_simulated),
        own_settings=own_settings,
    output:
        report=report(
            REPORT,
            caption="../report/report.rst",
            category="{scan}",
            labels={"volume": "all", "what": "report"},
        ),
    log:
        f"{SCAN}/logs/report.log",
    benchmark:
        f"{SCAN}/benchmarks/report.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    resources:
        mem_mb=PLAN.memory_mb("report"),
        runtime=PLAN.minutes("report"),
    params:
        section=section("report"),
        lineage=lineage("report"),
    message:
        "{wildcards.scan}: writing the report"
    shell:
        "xrmflow report --flatfield {input.flatfield:q} --views {input.views:q} --geometry {input.geometry:q} "
        "--sweep {input.sweep:q} --cupping {input.cupping:q} --cupping-slices {input.cupping_slices:q} "
        "--volumes {input.volumes:q} --bones {input.bones:q} --tables {input.tables:q} "
        "--slice-tables {input.slice_tables:q} --lacuna-tables {input.lacuna_tables:q} "
        "--models {input.models:q} --validation {input.validation:q} --own-settings {input.own_settings:q} "
        "--report {output.report:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"
