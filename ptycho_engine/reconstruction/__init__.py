"""From a scan and a model to a result: images, stitching, report, evaluation."""
