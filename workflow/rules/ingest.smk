# Vendor file -> raw.zarr; or volume.zarr, where the file is a volume already


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
        "xrmflow ingest --source {input.source:q} --raw {output.raw:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"


rule import_volume:
    input:
        source=source,
    output:
        volume=VOLUME,
    log:
        f"{SCAN}/logs/import_volume.log",
    benchmark:
        f"{SCAN}/benchmarks/import_volume.tsv"
    wildcard_constraints:
        scan=one_of(PLAN.scans, PLAN.imports),
    conda:
        "../../envs/xrmflow.yaml"
    resources:
        mem_mb=PLAN.memory_mb("import_volume"),
        runtime=PLAN.minutes("import_volume"),
    params:
        section=section("import_volume"),
        lineage=lineage("import_volume"),
    message:
        "{wildcards.scan}: reading {input.source}"
    shell:
        "xrmflow import_volume --source {input.source:q} --volume {output.volume:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"
