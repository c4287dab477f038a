"""What cuts: the OpenCV engine that comes along, or a model of your own.

An engine is any object with ``cut``. A model is plugged in by naming something that makes one
(a class or a function without arguments)::

    # mymodel.py
    import numpy as np
    import onnxruntime
    from cutwork.sandbox.engine import Cut

    class U2Net:
        def __init__(self):
            self.session = onnxruntime.InferenceSession("u2net.onnx")

        def cut(self, picture, kind):
            mask = ...                      # float, picture.shape[:2], 0 to 1
            return Cut((mask * 255).round().astype(np.uint8), kind or "object")

    $ PYTHONPATH=. cutwork sandbox --engine mymodel:U2Net

``cut`` is called from several threads at once.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cutwork.errors import InvalidSetting


@dataclass(frozen=True, eq=False)
class Cut:
    """``alpha``: (height, width) uint8, 255 is subject. ``kind``: person, object or stamp."""

    alpha: NDArray[np.uint8]
    kind: str


class Engine(Protocol):
    """Finds the subject of a picture."""

    def cut(self, picture: NDArray[np.uint8], kind: str) -> Cut:
        """Cut ``picture``, BGR (height, width, 3); ``kind`` ``""`` means to find out."""
        ...


def load_engine(reference: str) -> Engine:
    """Make the engine that ``module:callable`` names.

    Raises:
        InvalidSetting: the reference cannot be imported, or makes no engine.
    """
    module, _, name = reference.partition(":")
    if not module or not name:
        raise InvalidSetting("--engine", reference, "must be module:callable")
    try:
        engine = getattr(import_module(module), name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise InvalidSetting("--engine", reference, f"cannot be made ({error})") from error
    if not callable(getattr(engine, "cut", None)):
        raise InvalidSetting("--engine", reference, "must make an object with cut(picture, kind)")
    return engine  # type: ignore[no-any-return]
