# Vendor file -> raw.zarr


rule ingest:
    input:
        source=source,
        files=files,
    output:
        raw=kept(RAW, "all"),
    log:
        f"{SCAN}/logs/ingest.log",
    benchmark:
        f"{SCAN}/benchmarks/ingest.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    resources:
        mem_mb=PLAN.memory_mb("ingest"),
        runtime=PLAN.minutes("ingest"),
    params:
        section=section("ingest"),
        lineage=lineage("ingest"),
    message:
        "{wildcards.scan}: reading {input.source}"
    shell:
        "xrmflow ingest --source {input.source:q} --raw {output.raw} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log}"
