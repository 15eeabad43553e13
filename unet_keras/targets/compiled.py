"""How this room compiles its loops: once a machine where there is a place to keep them."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile with numba at the first call, exactly as written and on one core.

    Importing compiles nothing. Strict floating point, so results do not depend on how a loop was
    vectorized; no lock held, so that threads can share the work.

    A compiled function is kept for its own file's content only. Compiled functions therefore
    call none of another file: an edit there would go unnoticed.

    Args:
        function: A function that numba compiles without Python objects.

    Returns:
        The function, compiled for each combination of argument types as it is met.
    """
    try:
        return cast(Function, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:
        # The package's folder and the user's cache folder are both read-only.
        return cast(Function, numba.njit(nogil=True)(function))
