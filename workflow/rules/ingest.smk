# Vendor file -> raw.zarr


rule ingest:
    input:
        source=source,
    output:
        raw=kept(RAW, "all"),
    params:
        section=section("ingest"),
        lineage=lineage("ingest"),
    log:
        f"{SCAN}/logs/ingest.log",
    benchmark:
        f"{SCAN}/benchmarks/ingest.tsv"
    resources:
        mem_mb=PLAN.memory_mb("ingest"),
    conda:
        "../../envs/xrmflow.yaml"
    message:
        "{wildcards.scan}: reading {input.source}"
    shell:
        STAGE + "ingest --source {input.source:q} --raw {output.raw}" + RECORD
