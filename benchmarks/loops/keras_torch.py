# /// script
# requires-python = "==3.11.*"
# dependencies = ["keras==3.15.1", "torch==2.13.0", "safetensors==0.8.0", "numpy==2.4.6"]
# [tool.d2lparams]
# title = "Keras on PyTorch"
# class = "TorchBackend"
# modules = ["torch"]
# ///
"""Keras on PyTorch, beside what our trainer for PyTorch needs: `train_on_batch`, as its users train."""

from __future__ import annotations

from keras_loops import CANDIDATES

__all__ = ["CANDIDATES"]
