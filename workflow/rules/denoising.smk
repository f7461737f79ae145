# Noise2Inverse: reconstructions of interleaved views teach a network to denoise; it needs no clean images


rule n2i_split:
    input:
        projections=PROJECTIONS,
        geometry=GEOMETRY,
        cupping=cupping,
        volume=VOLUME,
    output:
        splits=[kept(path, "standard") for path in SPLITS],
    log:
        f"{SCAN}/logs/n2i_split.log",
    benchmark:
        f"{SCAN}/benchmarks/n2i_split.tsv"
    wildcard_constraints:
        scan=PARTS.scans("n2i_split", cut=False),
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("n2i_split")
    resources:
        mem_mb=PLAN.memory_mb("n2i_split"),
        runtime=PLAN.minutes("n2i_split"),
    params:
        section=section("n2i_split"),
        lineage=lineage("n2i_split"),
    message:
        "{wildcards.scan}: reconstructing interleaved views"
    shell:
        "xrmflow n2i_split --projections {input.projections:q} --geometry {input.geometry:q} "
        "--cupping {input.cupping:q} --volume {input.volume:q} --splits {output.splits:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"


rule n2i_train:
    input:
        splits=splits_of(PLAN.with_role("train", "train-only")),
        validation=splits_of(PLAN.with_role("validation")),
    output:
        model=N2I_WEIGHTS,
        card=N2I_CARD,
    log:
        f"{MODEL}/logs/n2i_train.log",
    benchmark:
        f"{MODEL}/benchmarks/n2i_train.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("n2i_train")
    resources:
        mem_mb=PLAN.memory_mb("n2i_train"),
        runtime=PLAN.minutes("n2i_train"),
        gpu=PLAN.gpu,
    params:
        section=section("n2i_train"),
        lineage=lineage("n2i_train"),
    message:
        "training Noise2Inverse"
    shell:
        "XRMFLOW_GPU={resources.gpu} xrmflow n2i_train "
        "--splits {input.splits:q} --validation {input.validation:q} --model {output.model:q} "
        "--card {output.card:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"


rule n2i_apply:
    input:
        splits=SPLITS,
        model=PLAN.settings.trained_n2i or N2I_WEIGHTS,
    output:
        denoised=DENOISED,
    log:
        f"{SCAN}/logs/n2i_apply.log",
    benchmark:
        f"{SCAN}/benchmarks/n2i_apply.tsv"
    wildcard_constraints:
        scan=PARTS.scans("n2i_apply", cut=False),
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("n2i_apply")
    resources:
        mem_mb=PLAN.memory_mb("n2i_apply"),
        runtime=PLAN.minutes("n2i_apply"),
        gpu=PLAN.gpu,
    params:
        section=section("n2i_apply"),
        lineage=lineage("n2i_apply"),
    message:
        "{wildcards.scan}: denoising"
    shell:
        "XRMFLOW_GPU={resources.gpu} xrmflow n2i_apply "
        "--splits {input.splits:q} --model {input.model:q} --denoised {output.denoised:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"
