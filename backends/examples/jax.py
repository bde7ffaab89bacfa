"""The models that transfers are shown on, as a user of Flax writes them; images are channels last."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from backends.uses.jax import Model
from d2lparams.interface import Example, Unsupported


class LanguageModel(nn.Module):  # type: ignore[misc]
    """Logits by the embedding's own matrix."""

    vocabulary: int
    width: int

    def setup(self) -> None:
        """Name the layers."""
        self.embed = nn.Embed(self.vocabulary, self.width)
        self.rnn = nn.RNN(nn.LSTMCell(self.width))

    def __call__(self, tokens: Any) -> Any:
        """Logits for every step."""
        return self.embed.attend(self.rnn(self.embed(tokens)))


def build(example: Example) -> Model:
    """A module with its first values.

    Raises:
        Unsupported: for an example that is not written here.
    """
    batch: tuple[int, ...] = (1, *example.inputs)
    match example.name:
        case "lenet":
            module = _lenet()
            batch = (1, *example.inputs[1:], example.inputs[0])
        case "lstm":
            module = nn.Sequential([nn.RNN(nn.LSTMCell(8)), nn.Dense(3)])
        case "language-model":
            module = LanguageModel(example.tokens, 6)
        case _:
            raise Unsupported(f"this backend builds no {example.name}")
    x = jnp.zeros(batch, "int32" if example.tokens else "float32")
    return module, jax.jit(module.init)(jax.random.key(0), x)


def _lenet() -> nn.Module:
    return nn.Sequential(
        [
            nn.Conv(6, kernel_size=(5, 5), padding=2),
            nn.sigmoid,
            lambda x: nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2)),
            nn.Conv(16, kernel_size=(5, 5), padding="VALID"),
            nn.sigmoid,
            lambda x: nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2)),
            lambda x: x.reshape((x.shape[0], -1)),
            nn.Dense(12),
            nn.sigmoid,
            nn.Dense(10),
            nn.sigmoid,
            nn.Dense(4),
        ]
    )
