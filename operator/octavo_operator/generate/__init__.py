"""The files that are made from the models, and the check that they are up to date."""
