"""The exceptions that users see: each message names the argument, its value and the fix."""

__all__ = [
    "CheckpointError",
    "CheckpointWarning",
    "CollapseWarning",
    "DivergedError",
    "InputError",
    "JaxticketError",
    "MissingExtraError",
    "NoMatchError",
    "StoppedError",
    "StructureError",
]


class JaxticketError(Exception):
    """The base class of every error that jaxticket raises on purpose."""


class InputError(JaxticketError, ValueError):
    """An argument has a value that cannot work."""


class StructureError(InputError):
    """Two pytrees that must have the same structure (or shapes that broadcast) do not."""


class NoMatchError(InputError):
    """A filter or a rule matches no leaf of the tree it was given."""


class CheckpointError(JaxticketError):
    """A saved ticket or run is missing, truncated, foreign, or of another configuration."""


class DivergedError(JaxticketError):
    """The loss or the weights of a training became NaN or infinite, and its policy is to stop then.

    Attributes:
      replicates: the replicates of the program that diverged, counted from 0; () for a training of one network.
    """

    def __init__(self, message: str, *, replicates: tuple[int, ...] = ()):
        super().__init__(message)
        self.replicates = replicates


class StoppedError(JaxticketError):
    """A run saved its state and stopped because it was asked to; the same command resumes it."""


class CheckpointWarning(UserWarning):
    """A saved state is damaged and was set aside; the run resumes from an earlier state."""


class CollapseWarning(UserWarning):
    """A layer of a ticket keeps no weight, so that nothing passes it. The search continues."""


class MissingExtraError(JaxticketError, ImportError):
    """An optional dependency is absent; the message names the extra that installs it."""

    def __init__(self, package: str, extra: str):
        super().__init__(f"{package} is not installed; install it with: pip install 'jaxticket[{extra}]'")
