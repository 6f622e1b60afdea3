"""Vectors of 16 numbers in compiled loops, where the compiler does not find by itself what to compute at once.

Each function becomes one or a few instructions of LLVM's own vectors (llvm.org/docs/LangRef.html), which LLVM turns
into those of the CPU at hand. Memory to read is named by its address, an integer, which may be any, and is not
checked."""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16
CACHE_LINE = 64  # bytes

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_PAIRS = ir.VectorType(ir.IntType(16), 2 * LANES)

# LLVM finds the instruction for sums of products of pairs by itself in some loops and not in others.
_FEATURES = get_host_cpu_features()
_DOT_INSTRUCTION = next((name for name in ("avx512bw", "avx2") if _FEATURES.get(name)), "")

_Generate = Callable[[Any, Any, Any, Any], Any]


def _instruction(form: Callable[..., tuple[Any, _Generate]]) -> Any:
    """A function of compiled loops, from one that gives its type and what makes its LLVM code of its arguments."""
    return intrinsic(form)


class _Vector(types.Type):  # type: ignore[misc] # numba is untyped
    """A vector as numba knows it."""

    def __init__(self, name: str, kind: ir.VectorType) -> None:
        self.kind = kind
        super().__init__(name)


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector: Any) -> None:
        super().__init__(manager, vector, vector.kind)


_floats = _Vector("16 float32", _FLOATS)
_integers = _Vector("16 int32", _INTEGERS)
_pairs = _Vector("16 pairs of int16", _PAIRS)


@_instruction
def zeros(_context: Any) -> tuple[Any, _Generate]:
    """A vector of zeros."""
    return _floats(), lambda _context, _builder, _signature, _arguments: _constant(_FLOATS, 0.0)


@_instruction
def broadcast(_context: Any, _number: Any) -> tuple[Any, _Generate]:
    """A float32 number in all lanes."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _in_all_lanes(builder, arguments[0], _FLOATS)

    return _floats(types.float32), generate


@_instruction
def multiply_add(_context: Any, _x: Any, _y: Any, _z: Any) -> tuple[Any, _Generate]:
    """x * y + z of vectors, rounded once where the CPU can."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _call(builder, f"llvm.fmuladd.v{LANES}f32", _FLOATS, arguments)

    return _floats(_floats, _floats, _floats), generate


@_instruction
def multiply(_context: Any, _x: Any, _y: Any) -> tuple[Any, _Generate]:
    """x * y of vectors."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fmul(*arguments)

    return _floats(_floats, _floats), generate


@_instruction
def add(_context: Any, _x: Any, _y: Any) -> tuple[Any, _Generate]:
    """x + y of vectors."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments)

    return _floats(_floats, _floats), generate


@_instruction
def magnitude(_context: Any, _vector: Any) -> tuple[Any, _Generate]:
    """The lanes without their signs."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        unsigned = builder.and_(builder.bitcast(arguments[0], _INTEGERS), _constant(_INTEGERS, 0x7FFFFFFF))
        return builder.bitcast(unsigned, _FLOATS)

    return _floats(_floats), generate


@_instruction
def maximum(_context: Any, _x: Any, _y: Any) -> tuple[Any, _Generate]:
    """The greater number of each lane."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return _floats(_floats, _floats), generate


@_instruction
def sum_lanes(_context: Any, _vector: Any) -> tuple[Any, _Generate]:
    """The lanes' sum as a float32 number."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        start = ir.Constant(ir.FloatType(), -0.0)
        name = f"llvm.vector.reduce.fadd.v{LANES}f32"
        return _call(builder, name, ir.FloatType(), (start, arguments[0]), fastmath=("reassoc",))

    return types.float32(_floats), generate


@_instruction
def store_sums(_context: Any, array: Any, _index: Any, _a: Any, _b: Any, _c: Any, _d: Any) -> tuple[Any, _Generate]:
    """Writes the sums of four vectors' lanes to four elements of a float32 array of one dimension. Halves are added
    until one vector holds all four sums, which takes a third of the work of summing each by itself."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def folded(x: Any, y: Any, part: int) -> Any:
            """Of each `part` lanes of x, and behind them of y, the first half plus the second."""
            first = [start + lane for start in range(0, 2 * LANES, part) for lane in range(part // 2)]
            order = ir.VectorType(ir.IntType(32), LANES)
            halves = ([lane + shift for lane in first] for shift in (0, part // 2))
            return builder.fadd(*(builder.shuffle_vector(x, y, ir.Constant(order, half)) for half in halves))

        array, index, *four = arguments
        pairs = folded(four[0], four[1], 16), folded(four[2], four[3], 16)
        fours = folded(*pairs, 8)
        eighths = folded(fours, fours, 4)
        sums = folded(eighths, eighths, 2)
        first_four = builder.shuffle_vector(sums, sums, ir.Constant(ir.VectorType(ir.IntType(32), 4), [0, 1, 2, 3]))
        builder.store(first_four, _element(context, builder, signature, array, index, first_four.type)).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, _floats, _floats, _floats, _floats), generate


@_instruction
def greatest_lane(_context: Any, _vector: Any) -> tuple[Any, _Generate]:
    """The greatest of the lanes as a float32 number."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _call(builder, f"llvm.vector.reduce.fmax.v{LANES}f32", ir.FloatType(), arguments)

    return types.float32(_floats), generate


@_instruction
def load(_context: Any, array: Any, _index: Any) -> tuple[Any, _Generate]:
    """16 numbers of an array of `compiled.as_array` in one dimension, from an index on, as float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index = arguments
        element = _element(context, builder, signature, array, index, ir.IntType(8))
        address = builder.ptrtoint(element, ir.IntType(64))
        number = signature.args[0].dtype
        if number == types.float32:
            return _load(builder, address, ir.FloatType())
        if number == types.int16:
            return builder.fpext(_load(builder, address, ir.HalfType()), _FLOATS)
        upper = builder.zext(_load(builder, address, ir.IntType(16)), _INTEGERS)  # bfloat16: float32's upper half
        return builder.bitcast(builder.shl(upper, _constant(_INTEGERS, 16)), _FLOATS)

    return _floats(array, types.intp), generate


@_instruction
def prefetch(_context: Any, _address: Any) -> tuple[Any, _Generate]:
    """Asks for the cache line of an address, which need not exist."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        to_read, into_all_caches, data = (ir.IntType(32)(choice) for choice in (0, 3, 1))
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), (pointer, to_read, into_all_caches, data))
        return context.get_dummy_value()

    return types.void(types.intp), generate


@_instruction
def store(_context: Any, array: Any, _index: Any, _vector: Any) -> tuple[Any, _Generate]:
    """Writes a vector to a float32 array of one dimension, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, vector = arguments
        builder.store(vector, _element(context, builder, signature, array, index, _FLOATS)).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, _floats), generate


@_instruction
def store_rounded(_context: Any, array: Any, _index: Any, _vector: Any) -> tuple[Any, _Generate]:
    """Writes the nearest integers of a vector to an int16 array of one dimension, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, vector = arguments
        whole = builder.fptosi(_call(builder, f"llvm.rint.v{LANES}f32", _FLOATS, (vector,)), _INTEGERS)
        rounded = builder.trunc(whole, ir.VectorType(ir.IntType(16), LANES))
        builder.store(rounded, _element(context, builder, signature, array, index, rounded.type)).align = 2
        return context.get_dummy_value()

    return types.void(array, types.intp, _floats), generate


@_instruction
def load_halves(_context: Any, _address: Any) -> tuple[Any, _Generate]:
    """16 float16 numbers."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fpext(_load(builder, arguments[0], ir.HalfType()), _FLOATS)

    return _floats(types.intp), generate


@_instruction
def load_nibble_pairs(_context: Any, _address: Any) -> tuple[Any, _Generate]:
    """32 bytes: their low halves as one vector of 16 pairs, their high halves as another."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bytes_ = builder.zext(_load(builder, arguments[0], ir.IntType(8), 2 * LANES), _PAIRS)
        halves = builder.and_(bytes_, _constant(_PAIRS, 15)), builder.lshr(bytes_, _constant(_PAIRS, 4))
        return context.make_tuple(builder, signature.return_type, halves)

    return types.UniTuple(_pairs, 2)(types.intp), generate


@_instruction
def load_byte_pairs(_context: Any, _address: Any) -> tuple[Any, _Generate]:
    """32 signed bytes as 16 pairs."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.sext(_load(builder, arguments[0], ir.IntType(8), 2 * LANES), _PAIRS)

    return _pairs(types.intp), generate


@_instruction
def broadcast_pair(_context: Any, array: Any, _index: Any) -> tuple[Any, _Generate]:
    """Two neighbours in an int16 array of one dimension, in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index = arguments
        pair = builder.load(_element(context, builder, signature, array, index, ir.IntType(32)))
        pair.align = 2
        return builder.bitcast(_in_all_lanes(builder, pair, _INTEGERS), _PAIRS)

    return _pairs(array, types.intp), generate


@_instruction
def zero_integers(_context: Any) -> tuple[Any, _Generate]:
    """A vector of 32-bit zeros."""
    return _integers(), lambda _context, _builder, _signature, _arguments: _constant(_INTEGERS, 0)


@_instruction
def add_dot(_context: Any, _x: Any, _y: Any, _z: Any) -> tuple[Any, _Generate]:
    """Of each lane's pairs (a, b) and (c, d), a * c + b * d + z, in 32 bits."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        x, y, z = arguments

        def some(vector: Any, numbers: range) -> Any:
            order = ir.VectorType(ir.IntType(32), len(numbers))
            return builder.shuffle_vector(vector, vector, ir.Constant(order, list(numbers)))

        def products(first: int) -> Any:
            chosen = range(first, 2 * LANES, 2)
            return builder.mul(*(builder.sext(some(pairs, chosen), _INTEGERS) for pairs in (x, y)))

        match _DOT_INSTRUCTION:
            case "avx512bw":
                dots = _call(builder, "llvm.x86.avx512.pmaddw.d.512", _INTEGERS, (x, y))
            case "avx2":
                half = ir.VectorType(ir.IntType(32), LANES // 2)
                halves = [
                    _call(builder, "llvm.x86.avx2.pmadd.wd", half, (some(x, lanes), some(y, lanes)))
                    for lanes in (range(LANES), range(LANES, 2 * LANES))
                ]
                dots = builder.shuffle_vector(*halves, ir.Constant(_INTEGERS, list(range(LANES))))
            case _:
                dots = builder.add(products(0), products(1))
        return builder.add(z, dots)

    return _integers(_pairs, _pairs, _integers), generate


@_instruction
def to_floats(_context: Any, _vector: Any) -> tuple[Any, _Generate]:
    """Integers as float32 numbers."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.sitofp(arguments[0], _FLOATS)

    return _floats(_integers), generate


def _constant(kind: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


def _call(builder: Any, name: str, result: ir.Type, arguments: Sequence[Any], **options: Any) -> Any:
    """What one of LLVM's own functions makes of its arguments."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments, **options)


def _element(context: Any, builder: Any, signature: Any, array: Any, index: Any, kind: ir.Type) -> Any:
    """A pointer to an element of the array that is the first argument, as one to something of another kind."""
    data = context.make_array(signature.args[0])(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


def _in_all_lanes(builder: Any, number: Any, kind: ir.VectorType) -> Any:
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, _constant(_INTEGERS, 0))


def _load(builder: Any, address: Any, element: ir.Type, count: int = LANES) -> Any:
    pointer = builder.inttoptr(address, ir.VectorType(element, count).as_pointer())
    loaded = builder.load(pointer)
    loaded.align = 1
    return loaded
