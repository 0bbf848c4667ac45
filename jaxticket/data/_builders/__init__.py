"""tfds builders of sets that come inside packages: import a module, then ask tfds for the set by its name."""
