# Super-resolution: learned on bones scanned at both resolutions, applied to the others


rule sr_train:
    input:
        low=[best_volume(scan) for scan in PLAN.pairs],
        high=[expand(VOLUME, scan=partner) for partner in PLAN.pairs.values()],
    output:
        model=SR_WEIGHTS,
        card=SR_CARD,
    log:
        f"{MODEL}/logs/sr_train.log",
    benchmark:
        f"{MODEL}/benchmarks/sr_train.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("sr_train")
    resources:
        mem_mb=PLAN.memory_mb("sr_train"),
        runtime=PLAN.minutes("sr_train"),
        gpu=PLAN.gpu,
    params:
        section=section("sr_train"),
        lineage=lineage("sr_train"),
    message:
        "training super-resolution"
    shell:
        "XRMFLOW_GPU={resources.gpu} xrmflow sr_train "
        "--low {input.low:q} --high {input.high:q} --model {output.model:q} "
        "--card {output.card:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"


rule sr_apply:
    input:
        volume=lambda wildcards: best_volume(wildcards.scan),
        model=PLAN.settings.trained_sr or SR_WEIGHTS,
    output:
        superres=SUPERRES,
    log:
        f"{SCAN}/logs/sr_apply.log",
    benchmark:
        f"{SCAN}/benchmarks/sr_apply.tsv"
    wildcard_constraints:
        scan=PARTS.scans("sr_apply", cut=False),
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("sr_apply")
    resources:
        mem_mb=PLAN.memory_mb("sr_apply"),
        runtime=PLAN.minutes("sr_apply"),
        gpu=PLAN.gpu,
    params:
        section=section("sr_apply"),
        lineage=lineage("sr_apply"),
    message:
        "{wildcards.scan}: super-resolving"
    shell:
        "XRMFLOW_GPU={resources.gpu} xrmflow sr_apply "
        "--volume {input.volume:q} --model {input.model:q} --superres {output.superres:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"
