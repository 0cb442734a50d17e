"""The models: a file a family, or a folder where it has a network. No Ray, no Feast, no tables, no files."""
