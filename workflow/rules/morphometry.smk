# Any volume -> masks -> bone numbers


rule segment:
    input:
        volume=STORE,
        # Read by the name that the settings give it.
        mask=mask,
    output:
        bone=BONE,
    log:
        f"{SCAN}/logs/segment_{{volume}}.log",
    benchmark:
        f"{SCAN}/benchmarks/segment_{{volume}}.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("segment")
    resources:
        mem_mb=PLAN.memory_mb("segment"),
        runtime=PLAN.minutes("segment"),
    params:
        section=section("segment"),
        lineage=lineage("segment"),
    message:
        "{wildcards.scan}: segmenting {wildcards.volume}"
    shell:
        "xrmflow segment --volume {input.volume:q} --bone {output.bone:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"


rule morphometry:
    input:
        volume=STORE,
        bone=BONE,
        parts=thickness_of,
    output:
        table=report(
            TABLE,
            caption="../report/morphometry.rst",
            category="{scan}",
            labels={"volume": "{volume}", "what": "bone morphometry"},
        ),
        slices=SLICES,
        lacunae=LACUNAE,
    log:
        f"{SCAN}/logs/morphometry_{{volume}}.log",
    benchmark:
        f"{SCAN}/benchmarks/morphometry_{{volume}}.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("morphometry")
    resources:
        mem_mb=PLAN.memory_mb("morphometry"),
        runtime=PLAN.minutes("morphometry"),
    params:
        section=section("morphometry"),
        lineage=lineage("morphometry"),
    message:
        "{wildcards.scan}: measuring {wildcards.volume}"
    shell:
        "xrmflow morphometry --volume {input.volume:q} --bone {input.bone:q} --parts {input.parts:q} "
        "--table {output.table:q} --slices {output.slices:q} --lacunae {output.lacunae:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"
