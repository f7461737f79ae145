"""Memory and disk that work on a volume takes, for those who plan it: imports nothing that works."""

from xrmflow.morphometry.slabs import Needs

SEGMENTATION = Needs(volume_bytes=15, slab_bytes=36, halo_bytes=180, disk_bytes=15)
"""Measured on phantoms of 256 x 256 x 256 to 512 x 512 x 512 voxels."""
MEASUREMENT = Needs(volume_bytes=40, slab_bytes=60, halo_bytes=100, disk_bytes=22)
"""The same; on the disk bones of much surface take more (19 to 26 bytes measured)."""
