"""A GPU for tests on machines without one: the device "pgpu", CPU tensors in a wrapper.

    import pretended_gpu  # makes the device, once per process
    x = torch.randn(4, 3, device="pgpu")  # x.device is pgpu:0
    x + torch.ones(3)  # RuntimeError, as on CUDA: two devices
    with pretended_gpu.waits() as seen:  # (what, "file.py:line") -> how often the host would wait
        ...

Every operation runs on the inner CPU tensors, so that values are those of the CPU, after the checks
that CUDA makes. Refused are operations on tensors of both devices, but for copies, index tensors,
and numbers (CPU tensors without dimensions) that are only read where elements meet; generators of
the CPU; and any use in a process that was forked after the first.

Not pretended are CUDA's kernels (which dtypes they know, their rounding and order of sums),
streams, limits of memory, more than one GPU, and whatever asks for torch.cuda. Shapes cannot be
changed in place. It stands on parts of torch without promises, above all on
_setup_privateuseone_for_python_backend; it runs with torch 2.11 and 2.15.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pgpu"
COPIES = {"copy_", "_copy_from", "_to_copy"}
# CUDA takes their indices to the device itself.
INDEXING = {
    *("index", "index_put", "index_put_", "_index_put_impl_"),
    *("_unsafe_index", "_unsafe_index_put"),
}
# Beside what is tagged pointwise, what reads a number of the CPU.
READ_NUMBERS = ("fill", "masked_fill", "where", "_foreach_", "index_fill", "lerp")
# The host reads the size of their result, or an error code.
WAIT = {
    *("_local_scalar_dense", "nonzero", "masked_select", "bincount", "equal"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive"),
    *("_linalg_eigh", "_linalg_svd", "linalg_cholesky_ex", "_linalg_solve_ex"),
    *("linalg_inv_ex", "linalg_lu_factor_ex"),
}
# Under autocast: in half precision, and in float32.
LOWER = (
    *("conv1d", "conv2d", "conv3d", "linear", "matmul", "mm", "mv", "bmm", "addmm", "baddbmm"),
    *("addbmm", "addmv", "scaled_dot_product_attention", "prelu"),
)
UPPER = (
    *("exp", "log", "log1p", "log2", "log10", "pow.Tensor_Scalar", "rsqrt", "reciprocal"),
    *("softplus", "layer_norm", "group_norm", "softmax.int", "log_softmax.int"),
    *("cross_entropy_loss", "nll_loss", "mse_loss", "cosine_similarity", "cdist", "logsumexp"),
    *("cumsum", "sum", "sum.dim_IntList", "prod", "norm.Scalar", "linalg_vector_norm"),
)


class _Facts(NamedTuple):
    """What is asked of an operation again and again."""

    name: str
    arguments: list  # of its schema
    is_composite: bool  # in inference mode autograd has not taken it apart
    takes_generator: bool
    draws: bool  # from a stream that it is not given
    reads_numbers: bool


@cache
def _facts(operation) -> _Facts:
    name = operation._schema.name.removeprefix("aten::")
    arguments = list(operation._schema.arguments)
    key = "CompositeImplicitAutograd"
    takes_generator = any(argument.name == "generator" for argument in arguments)
    is_pointwise = torch.Tag.pointwise in operation.tags
    return _Facts(
        name,
        arguments,
        torch._C._dispatch_has_kernel_for_dispatch_key(operation.name(), key),
        takes_generator,
        torch.Tag.nondeterministic_seeded in operation.tags and not takes_generator,
        is_pointwise or name in INDEXING or name.startswith(READ_NUMBERS),
    )


_random = torch.Generator()
_owner: int | None = None  # the process that first used the device
_seen: Counter | None = None
_libraries: list[torch.library.Library] = []  # a registration ends with its library


class PretendedTensor(torch.Tensor):
    """A tensor of the device; `inner` holds its values."""

    inner: torch.Tensor  # type: ignore[assignment]  # hides the product of vectors, Tensor.inner
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        # An inference tensor if the inner one is: a view of a parameter is none, even in
        # inference mode.
        with torch.inference_mode(inner.is_inference()):
            return torch.Tensor._make_wrapper_subclass(
                cls,
                inner.size(),
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                device=DEVICE,
            )

    def __init__(self, inner: torch.Tensor):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        if _facts(operation).is_composite:
            return operation.decompose(*args, **(kwargs or {}))
        return _run(operation, args, kwargs or {})

    # With these two nn.Module.to() makes parameters of this type, instead of putting new values
    # into the old ones.
    def __tensor_flatten__(self):
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(parts, context, size, stride):
        return PretendedTensor(parts["inner"])

    def __reduce_ex__(self, protocol):
        """A file holds CPU tensors, as it is read with map_location="cpu"."""
        _note("copy to the host")
        return self.inner.__reduce_ex__(protocol)

    def __deepcopy__(self, memo):
        copied = self.detach().clone().requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copied._is_param = True
        return memo.setdefault(id(self), copied)

    def numpy(self, *, force=False):
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )

    def tolist(self):
        return self.cpu().tolist()

    def __repr__(self, *, tensor_contents=None):
        return f"{self.inner!r} on {self.device}"


class _Module:
    """torch.pgpu, whose names are torch's."""

    def is_initialized(self):
        return True

    is_available = is_initialized

    def current_device(self):
        return 0

    def device_count(self):
        return 1

    def set_device(self, device):
        pass

    def synchronize(self, device=None):
        _note("synchronize")

    def manual_seed(self, seed):
        _random.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_rng_state(self, device=None):
        return _random.get_state()

    def set_rng_state(self, state, device=None):
        _random.set_state(state)

    def get_amp_supported_dtype(self):
        return [torch.float16, torch.bfloat16]

    def _is_in_bad_fork(self):
        return _owner not in (None, os.getpid())


@contextmanager
def waits() -> Iterator[Counter]:
    """Counts what makes the host wait, by kind and the innermost line outside of libraries.

    The line of a backward pass is "backward". Copies that name themselves "not awaited" make it
    wait for the bytes only if they are pageable.
    """
    global _seen
    before, _seen = _seen, Counter()
    try:
        yield _seen
    finally:
        _seen = before


@contextmanager
def pinned_memory() -> Iterator[None]:
    """Pinning, which the Python backend of torch lacks: ordinary memory that counts as pinned.

    It is that of `torch.empty(..., pin_memory=True)` and `Tensor.pin_memory()`.
    """
    empty, pin = torch.empty, torch.Tensor.pin_memory

    def empty_or_pinned(*size, pin_memory=False, **options):
        made = empty(*size, **options)
        return _pinned(made) if pin_memory else made

    def pinned_copy(self, device=None):
        return _pinned(self.clone(memory_format=torch.preserve_format))

    torch.empty = empty_or_pinned
    torch.Tensor.pin_memory = pinned_copy  # type: ignore[method-assign]  # for the block
    try:
        yield
    finally:
        torch.empty = empty
        torch.Tensor.pin_memory = pin  # type: ignore[method-assign]


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    vars(tensor)["_pretended_pinned"] = True
    return tensor


def _run(operation, args, kwargs):
    """The operation on the inner tensors."""
    facts = _facts(operation)
    leaves = list(_leaves((*args, *kwargs.values())))
    ours = [leaf for leaf in leaves if isinstance(leaf, PretendedTensor)]
    given = {argument.name: value for argument, value in zip(facts.arguments, args)} | kwargs
    _refuse_forked(operation)
    if ours and facts.name not in COPIES:
        _refuse_mixture(operation, given)
    _refuse_generators(operation, leaves)
    if _seen is not None:
        _note_wait(facts.name, given)
    shapes = [tensor.inner.shape for tensor in ours]
    with torch._C._AutoDispatchBelowAutograd(), _drawing(operation):
        result = operation(*_mapped(_inner, args), **_inside(operation, given, kwargs))
    if [tensor.inner.shape for tensor in ours] != shapes:
        raise NotImplementedError(f"{operation} changes a shape in place: {NAME} cannot follow")
    return _outside(result, ours, to_host=_is_host(given.get("device")))


def _inside(operation, given: dict, kwargs: dict) -> dict:
    """Keyword arguments as the CPU takes them."""
    inside = {key: _mapped(_inner, value) for key, value in kwargs.items()}
    if inside.get("device") is not None:
        inside["device"] = torch.device("cpu")
    if _facts(operation).takes_generator and given.get("generator") is None:
        inside["generator"] = _random
    return inside


def _outside(result: Any, ours: list[PretendedTensor], *, to_host: bool) -> Any:
    """The result on the device; what comes back as it was given (in place, out=) as it was."""
    outer = {id(tensor.inner): tensor for tensor in ours}

    def wrapped(part):
        if id(part) in outer:
            return outer[id(part)]
        return PretendedTensor(part) if isinstance(part, torch.Tensor) and not to_host else part

    return _mapped(wrapped, result)


def _inner(leaf):
    return leaf.inner if isinstance(leaf, PretendedTensor) else leaf


def _leaves(value: Any) -> Iterator[Any]:
    """What stands in lists and tuples, the only containers of operations."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, list | tuple):
        parts = [_mapped(function, part) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    return function(value)


def _refuse_forked(operation) -> None:
    global _owner
    _owner = _owner or os.getpid()
    if _owner != os.getpid():
        raise RuntimeError(f"Cannot re-initialize {NAME} in forked subprocess ({operation})")


def _refuse_generators(operation, leaves: list) -> None:
    generators = [leaf for leaf in leaves if isinstance(leaf, torch.Generator)]
    if any(generator.device.type == "cpu" for generator in generators):
        raise RuntimeError(
            f"Expected a '{NAME}' device type for generator but found 'cpu' ({operation})"
        )


def _refuse_mixture(operation, given: dict) -> None:
    name, reads_numbers = _facts(operation).name, _facts(operation).reads_numbers
    for argument in _facts(operation).arguments:
        for tensor in _leaves(given.get(argument.name)):
            if not isinstance(tensor, torch.Tensor) or isinstance(tensor, PretendedTensor):
                continue
            is_index = name in INDEXING and argument.name == "indices"
            if is_index and isinstance(given["self"], PretendedTensor):
                _note("index from the host")
            elif tensor.dim() or not reads_numbers or argument.is_write:
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two "
                    f"devices, {DEVICE} and {tensor.device}! ({operation}, {argument.name} of "
                    f"shape {tuple(tensor.shape)})"
                )


def _note_wait(name: str, given: dict) -> None:
    if name in WAIT or (name == "repeat_interleave" and given.get("output_size") is None):
        _note("item" if name == "_local_scalar_dense" else name)
    elif name in INDEXING and any(_is_mask(index) for index in given["indices"]):
        _note("nonzero of a mask")
    elif name in COPIES:
        _note_copy(name, given)


def _note_copy(name: str, given: dict) -> None:
    # _to_copy, which has no target, comes here for what it takes to the host.
    source, target = given.get("src", given["self"]), given.get("dst", given["self"])
    is_up = name != "_to_copy" and isinstance(target, PretendedTensor)
    is_across = name != "_to_copy" or _is_host(given.get("device"))
    if isinstance(source, PretendedTensor) == is_up or not is_across:
        return
    awaited = ""
    if given.get("non_blocking"):
        is_pinned = any(hasattr(tensor, "_pretended_pinned") for tensor in (source, target))
        awaited = ", not awaited" + ("" if is_pinned else " (pageable)")
    _note(f"copy {'from' if is_up else 'to'} the host{awaited}")


def _is_mask(index: torch.Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def _is_host(device) -> bool:
    return device is not None and torch.device(device).type == "cpu"


def _note(what: str) -> None:
    if _seen is not None:
        _seen[what, _place()] += 1


def _place() -> str:
    frame: FrameType | None = sys._getframe(2)
    libraries = ("<", sys.base_prefix, os.path.dirname(torch.__file__))
    while frame:
        file = frame.f_code.co_filename
        if file != __file__ and "site-packages" not in file and not file.startswith(libraries):
            return f"{os.path.relpath(file)}:{frame.f_lineno}"
        frame = frame.f_back
    return "backward"


@contextmanager
def _device_draws() -> Iterator[None]:
    """What takes no generator draws from the device's too."""
    before = torch.get_rng_state()
    torch.set_rng_state(_random.get_state())
    try:
        yield
    finally:
        _random.set_state(torch.get_rng_state())
        torch.set_rng_state(before)


def _drawing(operation):
    return _device_draws() if _facts(operation).draws else nullcontext()


def _autocast(operation, dtype_of: Callable[[], torch.dtype]):
    """The operation with its tensors of the device in another floating type."""
    key = torch._C._dispatch_key_parse("AutocastPrivateUse1")
    below = torch._C.DispatchKeySet(key)

    def cast(leaf):
        is_cast = isinstance(leaf, PretendedTensor) and leaf.dtype in (
            torch.float32,
            torch.float16,
            torch.bfloat16,
        )
        return leaf.to(dtype_of()) if is_cast else leaf

    def kernel(*args, **kwargs):
        with torch._C._ExcludeDispatchKeyGuard(below):
            return operation(
                *_mapped(cast, args), **{key: cast(value) for key, value in kwargs.items()}
            )

    return kernel


def _operation(name: str):
    base, _, overload = name.removeprefix("aten::").partition(".")
    return getattr(getattr(torch.ops.aten, base, None), overload or "default", None)


def _makes_tensors_of_none(name: str) -> bool:
    operation = _operation(name) if name.startswith("aten::") else None
    arguments = operation._schema.arguments if operation else ()
    has_device = any(argument.name == "device" for argument in arguments)
    return has_device and not any("Tensor" in str(argument.type) for argument in arguments)


def _kernel_of(operation):
    return lambda *args, **kwargs: _run(operation, args, kwargs)


def _make() -> None:
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    library, fallback = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    _libraries.extend((library, fallback))
    for name in torch._C._dispatch_get_all_op_names():
        if _makes_tensors_of_none(name):  # these find their way here by their device only
            library.impl(name, _kernel_of(_operation(name)), "PrivateUse1")

    def copy_from(source, target, non_blocking=False):
        return _run(torch.ops.aten.copy_.default, (target, source, non_blocking), {})

    def any_other(operation, *args, **kwargs):
        return _run(operation, args, kwargs)

    # What copy_ becomes where tensors of Python are not asked: torch.tensor(..., device=...).
    library.impl("_copy_from", copy_from, "PrivateUse1")
    fallback.fallback(any_other, "PrivateUse1")
    for names, dtype_of in (
        (LOWER, lambda: torch.get_autocast_dtype(NAME)),
        (UPPER, lambda: torch.float32),
    ):
        for name in names:
            library.impl(name, _autocast(_operation(name), dtype_of), "AutocastPrivateUse1")
    fallback.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")


_make()
DEVICE = torch.device(NAME, 0)
