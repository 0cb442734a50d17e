"""A DCN-v2 ranker: `network` is its arithmetic, `estimator` fits it, `model` is what is served."""
