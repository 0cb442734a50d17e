"""The two-tower: `network` is its arithmetic, `estimator` fits it, `model` is what is served."""
