"""Parameters carried from each framework to each other one and back, and whether the model is the same there.

Three stages. In the first, every column exports a model and leaves it in the run's folder, with what the model
computes. In the second, every column loads what every other has left into a model of its own, computes the
same and leaves what it exports again. In the third, every column takes its own back. Values must be equal bit
for bit and ties equal; outputs, gradients and a training step must agree within 1e-5 of the largest entry: all
is float32, whose rounding is 6e-8 an operation, through at most some ten layers of at most 64 terms each.
"""

from __future__ import annotations

from typing import Any

from d2lparams.interface import Backend, Unsupported
from d2lparams.models import EXAMPLES
from d2lparams.scenarios.registry import Observer, scenario
from d2lparams.transfers import bring_back, hand_over, inputs_of, prepared, take_over


@scenario(section="6.2", title="An MLP carried elsewhere and back", full=True, stages=3)
def transfer_mlp(backend: Backend[Any], observe: Observer) -> None:
    """Does a plain network compute the same in each framework with the values of each other one?"""
    _transfer(backend, observe, "mlp")


@scenario(section="6.2.2", title="A tied MLP carried elsewhere and back", full=True, stages=3)
def transfer_tied_mlp(backend: Backend[Any], observe: Observer) -> None:
    """Is a tie still one storage in each other framework, and does a training step there move it once?"""
    _transfer(backend, observe, "tied-mlp")


@scenario(section="7.6", title="LeNet carried elsewhere and back", full=True, stages=3)
def transfer_lenet(backend: Backend[Any], observe: Observer) -> None:
    """Do kernels, and the dense layer after the flattened image, fit where channels stand last?"""
    _transfer(backend, observe, "lenet")


@scenario(section="10.1", title="An LSTM carried elsewhere and back", full=True, stages=3)
def transfer_lstm(backend: Backend[Any], observe: Observer) -> None:
    """Do the gates find their places, and the one or two biases that a gate has?"""
    _transfer(backend, observe, "lstm")


@scenario(section="15.1", title="A language model carried elsewhere and back", full=True, stages=3)
def transfer_language_model(backend: Backend[Any], observe: Observer) -> None:
    """Does an embedding that is also the output's projection stay one matrix?"""
    _transfer(backend, observe, "language-model")


def _transfer(backend: Backend[Any], observe: Observer, name: str) -> None:
    if observe.folder is None:
        raise Unsupported("a transfer needs the files of other columns; `d2lparams compare` runs it")
    example, folder = EXAMPLES[name], observe.folder / name
    folder.mkdir(exist_ok=True)
    if observe.stage == 0:
        model = prepared(backend, backend.example(example), example)
        hand_over(backend, model, folder, observe.column, inputs_of(example), example.kind)
        return
    # In the order of their names, for the columns that have left something are not told.
    if observe.stage == 1:
        for source in sorted(path.name for path in folder.iterdir() if (path / "done").exists()):
            with backend.fresh():
                take_over(backend, backend.example(example), folder, source, observe)
    else:
        for target in sorted(path.stem for path in (folder / observe.column / "back").iterdir()):
            with backend.fresh():
                bring_back(backend, backend.example(example), folder, target, observe)
