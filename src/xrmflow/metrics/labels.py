"""What the numbers of a segmented volume mean: the same for a measured bone and for a simulated one."""

OUTSIDE, MARROW, BONE, LACUNA, CANAL = 0, 1, 2, 3, 4
"""Outside the volume of interest or the object; marrow and all soft tissue; mineralised bone; its pores."""
LABELS = {"outside": OUTSIDE, "marrow": MARROW, "bone": BONE, "lacuna": LACUNA, "canal": CANAL}
