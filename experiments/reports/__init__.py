"""The progress of a run, and its tables, plots and pages."""
