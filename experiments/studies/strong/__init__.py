"""Strong tickets: networks whose weights are not trained."""
