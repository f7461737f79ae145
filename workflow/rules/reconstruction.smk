# projections.zarr + geometry.json + cupping.json -> volume.zarr, and iterative.zarr where it is measured


rule fdk:
    input:
        projections=PROJECTIONS,
        geometry=GEOMETRY,
        cupping=cupping,
    output:
        volume=VOLUME,
    log:
        f"{SCAN}/logs/fdk.log",
    benchmark:
        f"{SCAN}/benchmarks/fdk.tsv"
    wildcard_constraints:
        scan=PARTS.scans("fdk", cut=False),
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("fdk")
    resources:
        mem_mb=PLAN.memory_mb("fdk"),
        runtime=PLAN.minutes("fdk"),
    params:
        section=section("fdk"),
        lineage=lineage("fdk"),
    message:
        "{wildcards.scan}: reconstructing"
    shell:
        "xrmflow fdk --projections {input.projections:q} --geometry {input.geometry:q} "
        "--cupping {input.cupping:q} --volume {output.volume:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"


rule iterative:
    input:
        projections=PROJECTIONS,
        geometry=GEOMETRY,
        cupping=cupping,
        volume=VOLUME,
    output:
        iterative=ITERATIVE,
    log:
        f"{SCAN}/logs/iterative.log",
    benchmark:
        f"{SCAN}/benchmarks/iterative.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("iterative")
    resources:
        mem_mb=PLAN.memory_mb("iterative"),
        runtime=PLAN.minutes("iterative"),
    params:
        section=section("iterative"),
        lineage=lineage("iterative"),
    message:
        "{wildcards.scan}: reconstructing by iteration"
    shell:
        "xrmflow iterative --projections {input.projections:q} --geometry {input.geometry:q} "
        "--cupping {input.cupping:q} --volume {input.volume:q} --iterative {output.iterative:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"
