"""What the symbols mean.

The nomenclature is that of the American Society for Bone and Mineral Research (Dempster 2013, Bouxsein 2010).
"""

GLOSSARY: dict[str, tuple[str, str]] = {
    "TV": ("total volume", "volume of interest in which bone is measured"),
    "BV": ("bone volume", "volume of mineralised bone within the volume of interest"),
    "BV/TV": ("bone volume fraction", "bone volume over total volume"),
    "BA/TA": ("bone area fraction", "bone area over tissue area in one slice"),
    "TA": ("tissue area", "area of the volume of interest in one slice"),
    "BA": ("bone area", "area of bone in one slice"),
    "BS": ("bone surface", "area of the surface between bone and marrow"),
    "BS/BV": ("specific bone surface", "bone surface over bone volume"),
    "BS/TV": ("bone surface density", "bone surface over total volume"),
    "Tb.Th": (
        "trabecular thickness",
        "mean diameter of the largest spheres that fit into bone (Hildebrand and Rüegsegger 1997)",
    ),
    "Tb.Sp": ("trabecular separation", "mean diameter of the largest spheres that fit into the marrow"),
    "Tb.N": ("trabecular number", "trabeculae per length"),
    "Conn.D": ("connectivity density", "redundant connections per volume (Odgaard and Gundersen 1993)"),
    "DA": ("degree of anisotropy", "how strongly the structure prefers a direction"),
    "SMI": ("structure model index", "plate-like (0) to rod-like (3); deprecated"),
    "Tt.Ar": ("total cross-sectional area", "area inside the outer (periosteal) surface, mean of slices"),
    "Ct.Ar": ("cortical bone area", "area of cortical bone, mean of slices"),
    "Ma.Ar": ("marrow area", "area of the medullary cavity, mean of slices"),
    "Ct.Ar/Tt.Ar": ("cortical area fraction", "cortical bone area over total area"),
    "Ct.Th": ("cortical thickness", "mean thickness of the cortex"),
    "Ct.Po": ("cortical porosity", "pore volume over the volume of the cortex"),
    "TMD": ("tissue mineral density", "mean mineral density of bone voxels only"),
    "BMD": ("bone mineral density", "mean mineral density of the whole volume of interest, marrow included"),
    "Lc.N": ("number of lacunae", "cavities of osteocytes counted in bone"),
    "N.Lc": ("number of lacunae", "cavities of osteocytes counted in bone"),
    "Lc.N/BV": ("lacuna density", "number of lacunae over bone volume"),
    "N.Lc/Ct.V": ("lacuna density", "number of lacunae over the volume of the cortex"),
    "Lc.V": ("lacuna volume", "volume of one lacuna"),
    "Lc.TV/BV": ("lacunar porosity", "total volume of lacunae over bone volume"),
    "Lc.TV": ("total lacuna volume", "volume of all lacunae together"),
    "Lc.S": ("lacuna surface", "surface of one lacuna"),
    "Lc.St": ("lacuna stretch", "(longest − shortest axis) over the longest: 0 sphere, towards 1 rod"),
    "Lc.Ob": ("lacuna oblateness", "rod-like to plate-like"),
    "Lc.Sr": ("lacuna sphericity", "1 for a sphere"),
    "Lc.Eq": ("lacuna equancy", "shortest over longest axis"),
    "Ca.V": ("canal volume", "volume of vascular canals"),
    "mu": ("mean attenuation of bone", "mean linear attenuation coefficient of bone away from its surfaces"),
    ".grey": ("from grey values", "appended to a symbol: partial volumes at surfaces count, not whole voxels"),
    ".SD": ("standard deviation", "appended to a symbol: spread of the quantity over the volume or the objects"),
}


def entries(symbols: set[str]) -> list[tuple[str, str, str]]:
    """(symbol, name, meaning) of the symbols that the glossary knows, and of what is appended to them."""
    wanted = set(symbols)
    for ending in (".SD", ".grey"):
        with_ending = {symbol for symbol in symbols if symbol.endswith(ending)}
        wanted |= {symbol.removesuffix(ending) for symbol in with_ending} | ({ending} if with_ending else set())
    return [(symbol, *text) for symbol, text in GLOSSARY.items() if symbol in wanted]
