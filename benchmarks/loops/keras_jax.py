# /// script
# requires-python = "==3.11.*"
# dependencies = ["keras==3.15.1", "jax==0.10.2", "flax==0.12.8", "optax==0.2.8", "numpy==2.4.6"]
# [tool.d2lparams]
# title = "Keras on JAX"
# class = "JaxBackend"
# modules = ["jax", "flax.linen", "optax"]
# ///
"""Keras on JAX, beside what our trainer for JAX needs: `train_on_batch`, as its users train."""

from __future__ import annotations

from keras_loops import CANDIDATES

__all__ = ["CANDIDATES"]
