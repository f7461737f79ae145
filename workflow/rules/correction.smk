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
    wildcard_constraints:
        scan=PARTS.scans("flatfield", cut=False),
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("flatfield")
    resources:
        mem_mb=PLAN.memory_mb("flatfield"),
        runtime=PLAN.minutes("flatfield"),
    params:
        section=section("flatfield"),
        lineage=lineage("flatfield"),
    message:
        "{wildcards.scan}: counts to line integrals"
    shell:
        "xrmflow flatfield --raw {input.raw:q} --projections {output.projections:q} "
        "--document {output.document:q} --views {output.views:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"


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
    threads: PLAN.threads("align")
    resources:
        mem_mb=PLAN.memory_mb("align"),
        runtime=PLAN.minutes("align"),
    params:
        section=section("align"),
        lineage=lineage("align"),
    message:
        "{wildcards.scan}: geometry from the scan itself"
    shell:
        "xrmflow align --projections {input.projections:q} --geometry {output.geometry:q} "
        "--sweep {output.sweep:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"


rule cupping:
    input:
        projections=PROJECTIONS,
        geometry=GEOMETRY,
        curve=curve,
    output:
        cupping=CUPPING,
        slices=CUPPING_SLICES,
        equations=CUPPING_EQUATIONS,
    log:
        f"{SCAN}/logs/cupping.log",
    benchmark:
        f"{SCAN}/benchmarks/cupping.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("cupping")
    resources:
        mem_mb=PLAN.memory_mb("cupping"),
        runtime=PLAN.minutes("cupping"),
    params:
        section=section("cupping"),
        lineage=lineage("cupping"),
    message:
        "{wildcards.scan}: beam hardening from the scan itself"
    shell:
        "xrmflow cupping --projections {input.projections:q} --geometry {input.geometry:q} --curve {input.curve:q} "
        "--cupping {output.cupping:q} --slices {output.slices:q} --equations {output.equations:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"


rule cupping_protocol:
    input:
        fits=of_protocol(CUPPING),
        equations=of_protocol(CUPPING_EQUATIONS),
    output:
        cupping=PROTOCOL_CUPPING,
    log:
        f"{PROTOCOL}/logs/cupping_protocol.log",
    benchmark:
        f"{PROTOCOL}/benchmarks/cupping_protocol.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    resources:
        mem_mb=PLAN.memory_mb("cupping_protocol"),
        runtime=PLAN.minutes("cupping_protocol"),
    params:
        section=section("cupping_protocol"),
        lineage=lineage("cupping_protocol"),
    message:
        "protocol {wildcards.protocol}: beam hardening from all of its scans"
    shell:
        "xrmflow cupping_protocol --fits {input.fits:q} --equations {input.equations:q} --cupping {output.cupping:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"
