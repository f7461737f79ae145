# Large scans: what one stage makes in one job elsewhere is made in parts, jobs of their own, and put together. A part is
# its stage: it has its section and lineage. docs/cluster.md says how it is decided, manage/parts.py decides it.


rule flatfield_part:
    input:
        raw=RAW,
    output:
        part=temp(PART.replace("{store}", "flatfield")),
    log:
        f"{SCAN}/logs/flatfield_{{part}}.log",
    benchmark:
        f"{SCAN}/benchmarks/flatfield_{{part}}.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("flatfield")
    resources:
        mem_mb=PARTS.memory_mb("flatfield"),
        runtime=PARTS.minutes("flatfield"),
    params:
        section=section("flatfield"),
        lineage=lineage("flatfield"),
    message:
        "{wildcards.scan}: counts to line integrals, rows {wildcards.part}"
    shell:
        "xrmflow flatfield --raw {input.raw:q} --projections {output.part:q} "
        "--part {wildcards.part} --params {params.section:q} --lineage {params.lineage} 2> {log:q}"


rule flatfield_gather:
    input:
        raw=RAW,
        parts=parts_of("flatfield"),
    output:
        projections=kept(PROJECTIONS, "standard"),
        document=FLATFIELD,
        views=VIEWS,
    log:
        f"{SCAN}/logs/flatfield_gather.log",
    benchmark:
        f"{SCAN}/benchmarks/flatfield_gather.tsv"
    wildcard_constraints:
        scan=PARTS.scans("flatfield", cut=True),
    conda:
        "../../envs/xrmflow.yaml"
    resources:
        mem_mb=PARTS.gather_mb("flatfield"),
        runtime=PARTS.gather_minutes("flatfield"),
    params:
        section=section("flatfield"),
        lineage=lineage("flatfield"),
    message:
        "{wildcards.scan}: putting the projections together"
    shell:
        "xrmflow flatfield --raw {input.raw:q} --parts {input.parts:q} --projections {output.projections:q} "
        "--document {output.document:q} --views {output.views:q} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"


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
        "xrmflow fdk --projections {input.projections:q} --geometry {input.geometry:q} "
        "--cupping {input.cupping:q} --volume {output.part:q} --part {wildcards.part} "
        "--params {params.section:q} --lineage {params.lineage} 2> {log:q}"


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
        "xrmflow gather --parts {input.parts:q} --stores {output.volume:q} 2> {log:q}"


rule n2i_split_part:
    input:
        projections=PROJECTIONS,
        geometry=GEOMETRY,
        cupping=cupping,
        volume=VOLUME,
    output:
        splits=[temp(PART.replace("{store}", name)) for name in SPLIT_NAMES],
    log:
        f"{SCAN}/logs/n2i_split_{{part}}.log",
    benchmark:
        f"{SCAN}/benchmarks/n2i_split_{{part}}.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("n2i_split")
    resources:
        mem_mb=PARTS.memory_mb("n2i_split"),
        runtime=PARTS.minutes("n2i_split"),
    params:
        section=section("n2i_split"),
        lineage=lineage("n2i_split"),
    message:
        "{wildcards.scan}: reconstructing interleaved views, slices {wildcards.part}"
    shell:
        "xrmflow n2i_split --projections {input.projections:q} --geometry {input.geometry:q} "
        "--cupping {input.cupping:q} --volume {input.volume:q} --splits {output.splits:q} "
        "--part {wildcards.part} --params {params.section:q} --lineage {params.lineage} 2> {log:q}"


rule n2i_split_gather:
    input:
        parts=parts_of("n2i_split", *SPLIT_NAMES),
    output:
        splits=[kept(path, "standard") for path in SPLITS],
    log:
        f"{SCAN}/logs/n2i_split_gather.log",
    benchmark:
        f"{SCAN}/benchmarks/n2i_split_gather.tsv"
    wildcard_constraints:
        scan=PARTS.scans("n2i_split", cut=True),
    conda:
        "../../envs/xrmflow.yaml"
    resources:
        mem_mb=PARTS.gather_mb("n2i_split"),
        runtime=PARTS.gather_minutes("n2i_split"),
    params:
        section=section("n2i_split"),
        lineage=lineage("n2i_split"),
    message:
        "{wildcards.scan}: putting the splits together"
    shell:
        "xrmflow gather --parts {input.parts:q} --stores {output.splits:q} 2> {log:q}"


rule n2i_apply_part:
    input:
        splits=SPLITS,
        model=PLAN.settings.trained_n2i or N2I_WEIGHTS,
    output:
        part=temp(PART.replace("{store}", "n2i_apply")),
    log:
        f"{SCAN}/logs/n2i_apply_{{part}}.log",
    benchmark:
        f"{SCAN}/benchmarks/n2i_apply_{{part}}.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("n2i_apply")
    resources:
        mem_mb=PARTS.memory_mb("n2i_apply"),
        runtime=PARTS.minutes("n2i_apply"),
        gpu=PLAN.gpu,
    params:
        section=section("n2i_apply"),
        lineage=lineage("n2i_apply"),
    message:
        "{wildcards.scan}: denoising slices {wildcards.part}"
    shell:
        "XRMFLOW_GPU={resources.gpu} xrmflow n2i_apply "
        "--splits {input.splits:q} --model {input.model:q} --denoised {output.part:q} "
        "--part {wildcards.part} --params {params.section:q} --lineage {params.lineage} 2> {log:q}"


rule n2i_apply_gather:
    input:
        parts=parts_of("n2i_apply"),
    output:
        denoised=DENOISED,
    log:
        f"{SCAN}/logs/n2i_apply_gather.log",
    benchmark:
        f"{SCAN}/benchmarks/n2i_apply_gather.tsv"
    wildcard_constraints:
        scan=PARTS.scans("n2i_apply", cut=True),
    conda:
        "../../envs/xrmflow.yaml"
    resources:
        mem_mb=PARTS.gather_mb("n2i_apply"),
        runtime=PARTS.gather_minutes("n2i_apply"),
    params:
        section=section("n2i_apply"),
        lineage=lineage("n2i_apply"),
    message:
        "{wildcards.scan}: putting the denoised volume together"
    shell:
        "xrmflow gather --parts {input.parts:q} --stores {output.denoised:q} 2> {log:q}"


rule sr_apply_part:
    input:
        volume=lambda wildcards: best_volume(wildcards.scan),
        model=PLAN.settings.trained_sr or SR_WEIGHTS,
    output:
        part=temp(PART.replace("{store}", "sr_apply")),
    log:
        f"{SCAN}/logs/sr_apply_{{part}}.log",
    benchmark:
        f"{SCAN}/benchmarks/sr_apply_{{part}}.tsv"
    conda:
        "../../envs/xrmflow.yaml"
    threads: PLAN.threads("sr_apply")
    resources:
        mem_mb=PARTS.memory_mb("sr_apply"),
        runtime=PARTS.minutes("sr_apply"),
        gpu=PLAN.gpu,
    params:
        section=section("sr_apply"),
        lineage=lineage("sr_apply"),
    message:
        "{wildcards.scan}: super-resolving slices {wildcards.part}"
    shell:
        "XRMFLOW_GPU={resources.gpu} xrmflow sr_apply "
        "--volume {input.volume:q} --model {input.model:q} --superres {output.part:q} "
        "--part {wildcards.part} --params {params.section:q} --lineage {params.lineage} 2> {log:q}"


rule sr_apply_gather:
    input:
        parts=parts_of("sr_apply"),
    output:
        superres=SUPERRES,
    log:
        f"{SCAN}/logs/sr_apply_gather.log",
    benchmark:
        f"{SCAN}/benchmarks/sr_apply_gather.tsv"
    wildcard_constraints:
        scan=PARTS.scans("sr_apply", cut=True),
    conda:
        "../../envs/xrmflow.yaml"
    resources:
        mem_mb=PARTS.gather_mb("sr_apply"),
        runtime=PARTS.gather_minutes("sr_apply"),
    params:
        section=section("sr_apply"),
        lineage=lineage("sr_apply"),
    message:
        "{wildcards.scan}: putting the super-resolved volume together"
    shell:
        "xrmflow gather --parts {input.parts:q} --stores {output.superres:q} 2> {log:q}"


rule morphometry_part:
    input:
        volume=STORE,
        bone=BONE,
    output:
        thickness=temp(THICKNESS),
    log:
        f"{SCAN}/logs/morphometry_{{volume}}_{{part}}.log",
    benchmark:
        f"{SCAN}/benchmarks/morphometry_{{volume}}_{{part}}.tsv"
    wildcard_constraints:
        part="|".join(PHASES),
    conda:
        "../../envs/xrmflow.yaml"
    resources:
        mem_mb=PARTS.memory_mb("morphometry"),
        runtime=PARTS.minutes("morphometry"),
    params:
        section=section("morphometry"),
        lineage=lineage("morphometry"),
    message:
        "{wildcards.scan}: thickness of {wildcards.part}, {wildcards.volume}"
    shell:
        "xrmflow morphometry --volume {input.volume:q} --bone {input.bone:q} --part {wildcards.part} "
        "--thickness {output.thickness:q} --params {params.section:q} --lineage {params.lineage} 2> {log:q}"
