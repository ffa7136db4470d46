"""A model as one file for other programs: ONNX, from the pixels of Pillow to unit rows."""

from tupelo.export.agreement import Agreement
from tupelo.export.writing import Exported, onnx

__all__ = ["onnx", "Exported", "Agreement"]
