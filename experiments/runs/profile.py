"""A trace of some steps of a run, to look at in TensorBoard or Perfetto."""

import pathlib

import jax


class Profile:
    """A trace from the first to the second look at a training: its program is compiled by then.

    Args:
      folder: the folder of the trace; perfetto_trace.json.gz in it is for ui.perfetto.dev, the rest for TensorBoard.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._looks = 0

    def look(self) -> None:
        """Look at a training that reached some step."""
        self._looks += 1
        if self._looks == 1:
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
        elif self._looks == 2:
            jax.profiler.stop_trace()

    def close(self) -> None:
        """End the trace of a run that is over after its first look."""
        if self._looks == 1:
            self.look()
