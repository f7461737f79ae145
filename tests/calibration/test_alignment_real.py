from dataclasses import replace

import h5py
import numpy as np
import pytest

from xrmflow.calibration.alignment import align, mismatch_px
from xrmflow.geometry.acquisition import Acquisition


@pytest.mark.real_data
def test_the_centre_of_the_tooth_stays_where_it_is(real_data):
    with h5py.File(real_data / "tomopy_tooth" / "tooth.h5") as file:
        frames, flats, darks = (
            np.asarray(file[f"exchange/{name}"], dtype=np.float32) for name in ("data", "data_white", "data_dark")
        )
    dark = darks.mean(axis=0)
    p = -np.log(np.clip((frames - dark) / (flats.mean(axis=0) - dark), 1e-3, None))
    views, rows, cols = p.shape
    # The recorded angles leave out the end of the arc: see calibration.centre.
    angles = tuple(np.linspace(0, 180, views).tolist())
    start = Acquisition("parallel", angles, rows, cols, 1.0, None, None, 295.7, 0.5, calibrated=False)
    fit = align(p, start, drift_knots=0, jitter=False)
    assert fit.trusted, fit.message
    assert fit.acquisition.centre_px == pytest.approx(295.5, abs=0.25)
    assert fit.disagreement_px is None  # sharpness is blind in a parallel half turn
    assert mismatch_px(p, fit.acquisition) < 0.1 < mismatch_px(p, replace(start, centre_px=(cols - 1) / 2))
    # Drifts and the centre cannot be told apart here: the centre is fitted alone.
    drifting = align(p, start)
    assert drifting.trusted
    assert "without drift and jitter" in drifting.message
    assert drifting.acquisition.centre_px == pytest.approx(295.5, abs=0.25)
