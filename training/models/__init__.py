"""The models, one file a family: numpy and torch in, numpy out. No Ray, no Feast, no tables, no files."""
