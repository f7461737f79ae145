# raw.zarr -> projections.zarr with the record of the correction, and what the scan says of its own geometry and beam hardening


rule flatfield:
    input:
        raw=RAW,
    output:
        projections=kept(PROJECTIONS, "standard"),
        document=FLATFIELD,
        views=VIEWS,
    log:
        f"{SCAN}/logs/flatfield.log",
    benchmark:
        f"{SCAN}/benchmarks/flatfield.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    threads: 8
    resources:
        mem_mb=PLAN.memory_mb("flatfield"),
        runtime=PLAN.minutes("flatfield"),
    params:
        section=section("flatfield"),
        lineage=lineage("flatfield"),
    message:
        "{wildcards.scan}: counts to line integrals"
    shell:
        "xrmflow flatfield --raw {input.raw} --projections {output.projections} "
        "--document {output.document} --views {output.views} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log}"


rule align:
    input:
        projections=PROJECTIONS,
    output:
        geometry=GEOMETRY,
        sweep=SWEEP,
    log:
        f"{SCAN}/logs/align.log",
    benchmark:
        f"{SCAN}/benchmarks/align.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    threads: 8
    resources:
        mem_mb=PLAN.memory_mb("align"),
        runtime=PLAN.minutes("align"),
    params:
        section=section("align"),
        lineage=lineage("align"),
    message:
        "{wildcards.scan}: geometry from the scan itself"
    shell:
        "xrmflow align --projections {input.projections} --geometry {output.geometry} "
        "--sweep {output.sweep} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log}"


rule cupping:
    input:
        projections=PROJECTIONS,
        geometry=GEOMETRY,
    output:
        cupping=CUPPING,
        slices=CUPPING_SLICES,
    log:
        f"{SCAN}/logs/cupping.log",
    benchmark:
        f"{SCAN}/benchmarks/cupping.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    threads: 8
    resources:
        mem_mb=PLAN.memory_mb("cupping"),
        runtime=PLAN.minutes("cupping"),
    params:
        section=section("cupping"),
        lineage=lineage("cupping"),
    message:
        "{wildcards.scan}: beam hardening from the scan itself"
    shell:
        "xrmflow cupping --projections {input.projections} --geometry {input.geometry} "
        "--cupping {output.cupping} --slices {output.slices} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log}"
