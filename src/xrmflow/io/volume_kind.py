"""Which files are reconstructed volumes rather than scans: told from their first bytes, without anything heavy."""

from pathlib import Path

SCANCO = b"CTDATA-HEADER_V1"
COMPOUND = bytes.fromhex("D0CF11E0A1B11AE1")


def volume_kind(path: Path) -> str:
    """ "isq" or "txm"; "" for anything else, and for what cannot be read: whoever reads it says why.

    Scans and volumes of a Zeiss microscope share a container, and only a value deep in it tells them apart; so there
    the name decides, as it does for the makers' own programs: a volume is a .txm, a scan a .txrm.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(SCANCO))
    except OSError:
        return ""
    if head == SCANCO:
        return "isq"
    return "txm" if head.startswith(COMPOUND) and path.suffix.lower() == ".txm" else ""
