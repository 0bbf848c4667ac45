"""The progress of a run, and the tables, plots and pages that come of it."""
