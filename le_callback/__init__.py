"""Whether and how classes become separable while a network trains."""

__version__ = "0.1.0"
