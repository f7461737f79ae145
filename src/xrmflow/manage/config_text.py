"""The settings file that `xrmflow init` writes: what most scans need to have said, all else left at its default."""

HEAD = """\
# Settings of a run. Every key is optional; what is commented out shows the default.
# All keys with units: config/README.md, or `xrmflow settings --explain`. Check: `xrmflow settings --check config.yaml`.
scans: {scans}
results: results
models: models
"""

BODY = """
# Volumes that are measured, side by side: the reconstruction, denoised, super-resolved (needs pairs in scans.tsv).
# Add iterative for a reconstruction by iteration, for scans of few or noisy views.
# measure: [volume, denoised, superres]
# device: auto
# storage:
#   keep: standard

# What a file cannot tell. A wrong angle_sign or row_order mirrors the volume; compare with a known feature once.
# ingest:
#   angle_sign: 1
#   row_order: format
#   shift_sign_x: 1
#   shift_sign_y: 1
#   source_to_axis_mm: null
#   source_to_detector_mm: null
#   pixel_size_um: null
#   angles_first_deg: null
#   angles_last_deg: null
#   reference_file: null

# import_volume:
#   slope_per_mm: null

# flatfield:
#   missing_flat: error
#   missing_dark: zero
#   rings: offset

# The centre is searched for; the report shows how well it was found. If it is wrong, say it here (pixels).
# align:
#   method: sweep
#   centre_px: null

# fdk:
#   window: ram-lak
#   memory_gb: 4.0

# A threshold found in each volume moves with it: to compare samples, give one fixed threshold for all.
# segment:
#   threshold_method: midpoint
#   threshold: null
"""


def config_text(*, scans: str, needs: list[str]) -> str:
    """The settings file as text.

    Args:
        scans: name of the table of scans.
        needs: what the scans lack and which setting mends it, one line each; listed on top.
    """
    text = HEAD.format(scans=scans)
    if needs:
        text += "\n# To decide before the first run:\n" + "".join(f"# - {line}\n" for line in needs)
    return text + BODY
