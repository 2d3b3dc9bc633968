"""All patterns of a scan on one object: the solver with its prior, calibration, uncertainty."""
