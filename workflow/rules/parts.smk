# Large scans: what one stage makes in one job elsewhere is made in parts, jobs of their own, and put together. A part is
# its stage: it has its section and lineage. docs/cluster.md says how it is decided, manage/parts.py decides it.


rule fdk_part:
    input:
        projections=PROJECTIONS,
        geometry=GEOMETRY,
        cupping=cupping,
    output:
        part=temp(PART.replace("{store}", "fdk")),
    log:
        f"{SCAN}/logs/fdk_{{part}}.log",
    benchmark:
        f"{SCAN}/benchmarks/fdk_{{part}}.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("fdk")
    resources:
        mem_mb=PARTS.memory_mb("fdk"),
        runtime=PARTS.minutes("fdk"),
    params:
        section=section("fdk"),
        lineage=lineage("fdk"),
    message:
        "{wildcards.scan}: reconstructing slices {wildcards.part}"
    shell:
        "xrmflow fdk --projections {input.projections} --geometry {input.geometry} "
        "--cupping {input.cupping} --volume {output.part} --part {wildcards.part} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log}"


rule fdk_gather:
    input:
        parts=parts_of("fdk"),
    output:
        volume=VOLUME,
    log:
        f"{SCAN}/logs/fdk_gather.log",
    benchmark:
        f"{SCAN}/benchmarks/fdk_gather.tsv"
    wildcard_constraints:
        scan=PARTS.scans("fdk", cut=True),
    conda:
        "../../envs/xrmflow.yaml"
    resources:
        mem_mb=PARTS.gather_mb("fdk"),
        runtime=PARTS.gather_minutes("fdk"),
    params:
        section=section("fdk"),
        lineage=lineage("fdk"),
    message:
        "{wildcards.scan}: putting the reconstruction together"
    shell:
        "xrmflow gather --parts {input.parts} --stores {output.volume} 2> {log}"
