"""Learn how Stable Diffusion works by running it. Start with notebooks/00_first_image.ipynb."""

_LAZY = {"load_pipeline": "hub", "sample": "sampling", "sample_steps": "sampling"}
__all__ = list(_LAZY)
__version__ = "0.1.0"


def __getattr__(name: str):
    # loading diffusers takes seconds, so nothing is imported before it is asked for
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"sdlearn.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'sdlearn' has no attribute {name!r}")
