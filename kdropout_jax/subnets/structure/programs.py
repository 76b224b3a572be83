"""A model's program as one flat list of operations, its dropouts marked."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from kdropout_jax.subnets import sites

__all__ = ()

SITE = core.Primitive("kdropout_site")
"""A dropout: cuts the last axis of its input to `size` units of `width`."""


@SITE.def_abstract_eval
def _site_shape(x, *, layer, width, size):
  del layer
  if x.shape[-1] not in (width, size):
    raise ValueError(f"a site of {width} units got {x.shape}")
  return x.update(shape=(*x.shape[:-1], size))


@dataclasses.dataclass(frozen=True)
class Operation:
  """One primitive; operands and results are places in `Program.shapes`.

  Attributes:
    name: the primitive's.
    params: its parameters, without programs that were put in its place.
    operands: places, or the value of a constant written into the program.
    results: places.
  """

  name: str
  params: Mapping[str, Any]
  operands: tuple[Any, ...]
  results: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Constant:
  """A scalar that is written into the program."""

  value: Any


@dataclasses.dataclass
class Program:
  """A flat program.

  Attributes:
    shapes: of all values, by place.
    params: the place of each leaf of the parameters.
    fixed: places of other inputs and of constants.
    constants: {place: value} of constants.
    outputs: places of what is returned.
    operations: in order.
    same: pairs of places whose axes belong together, besides.
  """

  shapes: list[tuple[int, ...]] = dataclasses.field(default_factory=list)
  params: list[int] = dataclasses.field(default_factory=list)
  fixed: list[int] = dataclasses.field(default_factory=list)
  constants: dict[int, Any] = dataclasses.field(default_factory=dict)
  outputs: list[int] = dataclasses.field(default_factory=list)
  operations: list[Operation] = dataclasses.field(default_factory=list)
  same: list[tuple[int, int]] = dataclasses.field(default_factory=list)

  def add(self, shape: Sequence[int]) -> int:
    """Returns the place of a new value."""
    self.shapes.append(tuple(shape))
    return len(self.shapes) - 1


def trace(
  run: Callable[[Any], Any],
  params: Any,
  sizes: Callable[[str, int], int],
  resize: bool = False,
) -> tuple[Program, dict[str, int]]:
  """Returns the program of ``run(params)``, and {layer: width} of its sites.

  Args:
    run: applies a model.
    params: parameters; only shapes and dtypes count.
    sizes: from a layer and its width to the units that its site leaves.
    resize: let Dense and Conv layers take small kernels.

  Raises:
    UnsupportedError: a site drops no whole units, or is met twice.
  """
  widths: dict[str, int] = {}

  def visit(layer, dropout, x):
    sites.check_first_call(layer, widths)
    sites.check_units(layer, dropout, x)
    width = widths.setdefault(layer, dropout.width)
    size = sizes(layer, width)
    return SITE.bind(x, layer=layer, width=width, size=size)

  def visited(params):
    with sites.visiting(visit, resize=resize):
      return run(params)

  closed = jax.make_jaxpr(visited)(params)
  program = Program()
  inputs = [program.add(np.shape(leaf)) for leaf in jax.tree.leaves(params)]
  program.params = inputs
  program.outputs = _add(program, closed, inputs)
  return program, widths


def _add(
  program: Program, closed, inputs: list[Any], rules: bool = True
) -> list[Any]:
  """Appends the operations of a closed jaxpr; returns its outputs' places.

  With `rules`, those of the derivatives that somebody wrote, too.
  """
  jaxpr = closed.jaxpr
  places: dict[Any, Any] = dict(zip(jaxpr.invars, inputs))
  for variable, value in zip(jaxpr.constvars, closed.consts):
    places[variable] = program.add(np.shape(value))
    program.fixed.append(places[variable])
    program.constants[places[variable]] = value

  def read(atom):
    if isinstance(atom, core.Literal):
      return Constant(atom.val)
    return places[atom]

  for eqn in jaxpr.eqns:
    operands = [read(atom) for atom in eqn.invars]
    inner = _inner(eqn)
    if inner is not None and not any(isinstance(o, Constant) for o in operands):
      results = _add(program, inner, operands, rules)
      if rules and eqn.primitive.name == "custom_jvp_call":
        _add_derivative(program, eqn, operands, results)
    else:
      results = [program.add(v.aval.shape) for v in eqn.outvars]
      operation = Operation(
        eqn.primitive.name, eqn.params, tuple(operands), tuple(results)
      )
      program.operations.append(operation)
    places.update(zip(eqn.outvars, results))
  return [read(atom) for atom in jaxpr.outvars]


def _inner(eqn):
  """Returns the program that an operation only wraps, closed, or None."""
  if eqn.primitive.name in ("jit", "pjit", "closed_call", "checkpoint"):
    inner = eqn.params["jaxpr"]
    return inner if hasattr(inner, "consts") else core.ClosedJaxpr(inner, ())
  if eqn.primitive.name == "custom_jvp_call":
    avals = [v.aval for v in eqn.invars]
    if all(jnp.issubdtype(aval.dtype, jnp.floating) for aval in avals):
      return eqn.params["call_jaxpr"]
  return None


def _add_derivative(program: Program, eqn, operands, results) -> None:
  """Appends the rule that somebody wrote for a function's derivative.

  Its own operations are read, so that a rule that mixes units is seen. A
  tangent has the units of its value.
  """

  def call(*args):
    return eqn.primitive.bind(
      *args, **eqn.primitive.get_bind_params(eqn.params)
    )

  avals = tuple(
    jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars
  )
  both = jax.make_jaxpr(lambda x, dx: jax.jvp(call, x, dx))(avals, avals)
  outputs = _add(program, both, [*operands, *operands], rules=False)
  again = zip(outputs, [*results, *results])
  program.same += [pair for pair in again if isinstance(pair[0], int)]
