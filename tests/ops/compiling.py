"""Compiles the kernels for a GPU that need not be here, and reads the result.

`python -m tests.ops.compiling` prints the table of docs/results/kernels.md.
"""

import dataclasses
import re
import subprocess
import tempfile

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kdropout_jax.ops import dispatch
from kdropout_jax.ops import problems
from kdropout_jax.ops.kernels import launches
from kdropout_jax.ops.kernels import tiles
from kdropout_jax.ops.kernels import triton_matmul

CAPABILITIES = (80, 90, 100)
# PTX of the tensor cores' products, by capability.
TENSOR_CORE = {
  80: r"\bmma\.sync",
  90: r"\bwgmma\.mma_async",
  100: r"\btcgen05\.mma",
}
_TYPES = {"float32": "*fp32", "bfloat16": "*bf16", "float16": "*fp16"}


@dataclasses.dataclass(frozen=True)
class Compiled:
  """What the compiler says about one kernel."""

  registers: int
  spills: int
  shared: int
  ptx: str

  def loop(self) -> list[str]:
    """Returns the instructions of the innermost loop, without comments."""
    lines = [line.split("//")[0].strip() for line in self.ptx.splitlines()]
    start = {line[:-1]: i for i, line in enumerate(lines) if line[-1:] == ":"}
    bodies = []
    for end, line in enumerate(lines):
      jump = re.search(r"bra(?:\.uni)?\s+(\S+);", line)
      if jump and start.get(jump[1], end) < end:
        bodies.append(lines[start[jump[1]] : end + 1])
    return min(bodies, key=len)


def problem(dtype: str, groups: int = 1, block: int = 128, rows: int = 4096):
  """Returns 4096 x 4096 x 4096 with half of the blocks kept on both sides."""
  side = problems.Side(4096, block, 4096 // block // 2, masked=True)
  return problems.Problem(rows, 1, groups, side, side, dtype)


def compile_product(product: str, given: problems.Problem, capability: int):
  """Compiles one product's kernel as a launch would."""
  if product == "forward":
    launch = launches.forward(capability, given, bias=True, relu=True)
  else:
    launch = getattr(launches, product)(capability, given)
  kernel = triton_matmul.KERNELS[launch.kernel]
  names = kernel.arg_names
  pointers = [name for name in names if name.endswith("_ptr")]
  tables = ("table", "count", "keep")
  signature = {
    name: "*i32" if any(t in name for t in tables) else _TYPES[given.dtype]
    for name in pointers
  } | {name: "constexpr" for name in names if name not in pointers}
  # XLA aligns every buffer to 16 bytes or more.
  aligned = {
    (i,): [["tt.divisibility", 16]]
    for i, name in enumerate(names)
    if name in pointers
  }
  source = ASTSource(kernel, signature, launch.meta, aligned)
  options = {
    "num_warps": launch.tile.num_warps,
    "num_stages": launch.tile.num_stages,
    "enable_fp_fusion": True,
  }
  target = GPUTarget("cuda", capability, 32)
  compiled = triton.compile(source, target=target, options=options)
  return launch, _read(compiled, capability)


def _read(kernel, capability: int) -> Compiled:
  """Reads registers and spills off the machine code."""
  with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
    file.write(kernel.asm["cubin"])
    file.flush()
    said = subprocess.run(
      [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name],
      capture_output=True,
      text=True,
      check=True,
    ).stdout
  registers, stack = (
    int(re.search(rf"{name}:(\d+)", said)[1]) for name in ("REG", "STACK")
  )
  return Compiled(registers, stack, kernel.metadata.shared, kernel.asm["ptx"])


def main():
  print(
    "| product | dtype | groups | block | capability | form | tile | warps |"
    " stages | registers | spilled bytes | shared KiB | tensor cores |"
  )
  print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
  for capability in CAPABILITIES:
    for product in dispatch.PRODUCTS:
      for dtype in ("bfloat16", "float32"):
        for groups, block in ((1, 128), (8, 128), (8, 64), (1, 32)):
          given = problem(dtype, groups, block)
          launch, got = compile_product(product, given, capability)
          tile = launch.tile
          found = len(re.findall(TENSOR_CORE[capability], got.ptx))
          print(
            f"| {product} | {dtype} | {groups} | {block} |"
            f" {capability // 10}.{capability % 10} |"
            f" {tiles.form(product, given)} |"
            f" {tile.rows}x{tile.cols}x{tile.depth} | {tile.num_warps} |"
            f" {tile.num_stages} | {got.registers} | {got.spills} |"
            f" {got.shared / 1024:.0f} | {found} |",
            flush=True,
          )


if __name__ == "__main__":
  main()
