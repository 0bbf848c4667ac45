"""Programs that run without the library."""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import export

from jaxticket import files
from jaxticket.errors import InputError, MissingExtraError
from jaxticket.export._arrays import by_path
from jaxticket.typing import PyTree

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def save_program(
    path: str | os.PathLike[str],
    run: Callable[..., Any],
    variables: PyTree,
    *inputs: Any,
    platforms: Sequence[str] | None = None,
) -> None:
    """Write a function as a program that jax loads and runs, without jaxticket and the code of the model.

    The program takes a dict of arrays by the names of their paths, which is what a file of `save_weights` holds, and
    the inputs. Weights are arguments, so that one program serves all weights of these shapes:

        from jax import export
        from safetensors.flax import load_file
        program = export.deserialize(bytearray(open("ticket.jax", "rb").read()))
        logits = program.call(load_file("ticket.safetensors"), x)

    A size that is not known yet is a symbol: `jax.ShapeDtypeStruct(export.symbolic_shape("batch, 8"), jnp.float32)`.
    A function of `structure.replay` takes only known sizes. Where examples do not depend on each other, map it:

        each = jax.vmap(lambda variables, x: replayed(variables, x[None])[0], in_axes=(None, 0))

    Args:
      path: the file; it is replaced whole, and its folder is made.
      run: (variables, *inputs) -> result, of dicts, lists and tuples of arrays.
      variables: a pytree of arrays, of which only shapes, dtypes and paths matter.
      *inputs: pytrees of arrays or of `jax.ShapeDtypeStruct`.
      platforms: the devices on which it shall run, of 'cpu', 'cuda', 'rocm' and 'tpu'; None for the one at hand.

    Raises:
      InputError: variables that are not arrays or have the same path, inputs that are not arrays, another platform, a
        result of other containers, or a function that cannot be traced at sizes that are symbols.
      MissingExtraError: flatbuffers is absent.
      CheckpointError: a file that cannot be written.
    """
    weights = by_path("variables", variables)
    paths, structure = list(weights), jax.tree.structure(variables)

    def program(weights: dict[str, Any], *inputs: Any) -> Any:
        return run(jax.tree.unflatten(structure, [weights[name] for name in paths]), *inputs)

    exported = _export(program, _shapes("variables", weights), _shapes("inputs", inputs), _checked(platforms))
    try:
        content = bytes(exported.serialize())
    except ImportError as error:
        raise MissingExtraError("flatbuffers", "export") from error
    except ValueError as error:
        raise InputError(f"run: a program holds dicts, lists and tuples of arrays only ({error})") from error
    files.write_together(pathlib.Path(path), content)


def _shapes(name: str, tree: PyTree) -> PyTree:
    """Return the shapes and dtypes of a pytree of arrays, on whatever devices they lie."""
    try:
        shapes = jax.eval_shape(lambda x: x, tree)
    except TypeError as error:
        raise InputError(f"{name} holds something that is not an array ({error!r:.200}); pass arrays") from error
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), shapes)


def _checked(platforms: Sequence[str] | None) -> list[str] | None:
    if platforms is None:
        return None
    if not isinstance(platforms, list | tuple) or not platforms or any(p not in _PLATFORMS for p in platforms):
        raise InputError(f"platforms is {platforms!r}; pass a list of some of {', '.join(_PLATFORMS)}")
    return list(platforms)


def _export(
    program: Callable[..., Any], weights: dict[str, Any], inputs: Sequence[Any], platforms: list[str] | None
) -> export.Exported:
    known = all(isinstance(n, int) for x in jax.tree.leaves(inputs) for n in x.shape)
    try:
        return export.export(jax.jit(program), platforms=platforms)(weights, *inputs)
    except Exception as error:
        if known:
            raise
        raise InputError(
            f"run cannot be traced at sizes that are symbols ({error!r:.200}); give inputs of known "
            "sizes, or map it over the examples by jax.vmap"
        ) from error
