"""What the CPU can do that Numba compiles for."""

from dataclasses import dataclass

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core.registry import cpu_target


@dataclass(frozen=True)
class Host:
    lanes: int  # floats in a register
    registers: int
    fma: bool  # a multiplication with an addition is one instruction
    x86: bool
    features: frozenset[str]

    @property
    def dot(self) -> str:
        """By which instruction it adds products of four bytes, if by one."""
        known = ("avx512vnni", "avxvnni") if self.x86 else ("dotprod",)
        return next((f for f in known if f in self.features), "")

    @property
    def name(self) -> str:
        return f"{self.lanes}x{self.registers}{'+' * self.fma}{self.dot}"


def described() -> Host:
    """By NUMBA_CPU_NAME it may be another CPU than this one: so LLVM is asked what it makes of one
    multiply-add of 16 floats."""
    triple, name, features = cpu_target.target_context.codegen().magic_tuple()
    has = frozenset(f[1:] for f in features.split(",") if f.startswith("+"))
    if not triple.startswith("x86_64"):  # NEON: fmla, 32 registers
        return Host(4, 32, True, False, has)
    machine = llvm.Target.from_triple(triple).create_target_machine(
        cpu=name, features=features, opt=2
    )
    text = machine.emit_assembly(llvm.parse_assembly(str(multiply_add(triple))))
    lanes = 16 if "%zmm" in text else 8 if "%ymm" in text else 4
    return Host(lanes, 32 if lanes == 16 else 16, "vfmadd" in text, True, has)


def multiply_add(triple) -> ir.Module:
    v = ir.VectorType(ir.FloatType(), 16)
    module = ir.Module()
    module.triple = triple
    f = ir.Function(module, ir.FunctionType(ir.VoidType(), [v.as_pointer()]), "f")
    b = ir.IRBuilder(f.append_basic_block())
    x = b.load(f.args[0])
    fmuladd = ir.Function(module, ir.FunctionType(v, [v] * 3), "llvm.fmuladd.v16f32")
    b.store(b.call(fmuladd, [x, x, x]), f.args[0])
    b.ret_void()
    return module


HOST = described()
