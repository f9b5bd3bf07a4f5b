"""charrnn: small recurrent language models of your own texts.

    import charrnn
    model = charrnn.train("corpus.txt", minutes=2)
    print(model.sample(temperature=0.8)[0].text)

The names below load on first use, so that importing the package stays instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charrnn.model import Model as Model
    from charrnn.model import Sample as Sample
    from charrnn.model import load as load
    from charrnn.scoring.figures import Score as Score
    from charrnn.trainer import train as train

__version__ = "0.1.0"
__all__ = ["Model", "Sample", "Score", "__version__", "load", "train"]

_HOMES = {"Model": "model", "Sample": "model", "Score": "scoring.figures", "load": "model", "train": "trainer"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'charrnn' has no attribute {name!r}")
    return getattr(import_module(f"charrnn.{_HOMES[name]}"), name)
