"""What trains a PyTorch model: its own loop in eager mode, and one compiled function when that pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from d2lparams.interface import (
    LOSSES,
    MEAN_SQUARED_ERROR,
    SGD,
    SOFTMAX_CROSS_ENTROPY,
    Adam,
    Array,
    Optimizer,
    Parameter,
    Price,
    Trainer,
    Unsupported,
)

_OBJECTIVES = {
    MEAN_SQUARED_ERROR: nn.functional.mse_loss,
    SOFTMAX_CROSS_ENTROPY: nn.functional.cross_entropy,
}


class TorchTrainer(Trainer):
    """Eager mode, until a compiled step pays; the first step is eager always, and makes the optimizer's state.

    The fused optimizer wakes every thread for every parameter, which pays for large ones only: the limit is the
    size from which PyTorch itself spreads an operation over threads (`at::internal::GRAIN_SIZE`).

    Where `torch.compile` cannot do it, for want of a C++ compiler say, the trainer stays eager, unless it was
    told to compile.

    Args:
        model: what is trained.
        parameters: of the model, as the harness lists them.
        optimizer: the rule.
        trained: what the optimizer is handed.
    """

    losses = LOSSES
    price = Price(compilation=10.0, step=3e-4, number=2e-9)

    def __init__(
        self, model: nn.Module, parameters: list[Parameter], optimizer: Optimizer, trained: list[Any]
    ) -> None:
        super().__init__(parameters)
        self._model = model
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        fused = max(parameter.numel() for parameter in trained) >= 32768
        self._optimizer = _rule(optimizer, trained, fused)
        self._compiled: _CompiledStep | None = None

    def _step(self, x: Array, y: Array) -> float:
        inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
        loss = self._one(inputs, targets) if self._compiles(x) else self._eager(inputs, targets)
        found: float = loss.item()
        return found

    def _run(self, x: Array, y: Array, steps: int) -> Array:
        inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
        one = self._one if self._compiles(x, steps) else self._eager
        losses: Array = torch.stack([one(inputs, targets) for _ in range(steps)]).numpy()
        return losses

    def _eager(self, x: Any, y: Any) -> Any:
        self._optimizer.zero_grad()
        loss = _OBJECTIVES[self._loss](self._model(x), y)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def _one(self, x: Any, y: Any) -> Any:
        """A compiled step, if it can be, and there is the state that an optimizer makes in its first one."""
        if self._compiled is None:
            loss = self._eager(x, y)
            self._compiled = _CompiledStep(self._model, _OBJECTIVES[self._loss], self._optimizer)
            return loss
        try:
            return self._compiled(x, y)
        except _CannotCompile as error:
            if self._compile is True:
                raise Unsupported(f"torch.compile cannot compile this step: {error}") from None
            self._compile = False
            return self._eager(x, y)

    def _set_learning_rate(self, learning_rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate

    def _slots(self) -> dict[str, tuple[int, ...]]:
        return {
            f"{key} of {self._names[id(parameter)]}": tuple(value.shape)
            for parameter, state in self._optimizer.state.items()
            for key, value in state.items()
            if torch.is_tensor(value) and value.shape == parameter.shape
        }


class _CannotCompile(Exception):
    """Why, in a line; nothing has changed."""


class _CompiledStep:
    """Forward, loss, backward and update in one function of `torch.compile`, on the optimizer's own state.

    The update is the optimizer's own, by the functions of `torch.optim` that its `step` calls, and the learning
    rate is a tensor, so that another one compiles nothing anew.

    Args:
        model: what is trained.
        objective: the loss, of outputs and targets.
        optimizer: that has taken a step.
    """

    def __init__(self, model: nn.Module, objective: Callable[..., Any], optimizer: Any) -> None:
        self._group = group = optimizer.param_groups[0]
        trained = [one for one in group["params"] if one.grad is not None]
        # A compiled step leaves no gradients in the parameters; an earlier one's would be mistaken for them.
        optimizer.zero_grad()
        update = _update(optimizer, trained)

        def step(x: Any, y: Any, rate: Any) -> Any:
            loss = objective(model(x), y)
            gradients = torch.autograd.grad(loss, trained)
            with torch.no_grad():
                update(list(gradients), rate)
            return loss.detach()

        # One shape at a time, and entries of its own, so that what is compiled for others meets no limit here.
        options = {"guard_filter_fn": _without_fixed}
        self._step = torch.compile(
            step, fullgraph=True, dynamic=False, isolate_recompiles=True, options=options
        )
        self._rate, self._last = torch.tensor(0.0, dtype=torch.float64), None
        self._known: set[int] = set()

    def __call__(self, x: Any, y: Any) -> Any:
        """The loss before the step.

        Raises:
            _CannotCompile: at the first step for a batch of this length.
        """
        if self._group["lr"] is not self._last:
            self._last = self._group["lr"]
            self._rate.fill_(self._last)
        if len(x) in self._known:
            return self._step(x, y, self._rate)
        try:
            # Without this switch the compiler would leave the backward pass, and what follows, to Python.
            with torch._dynamo.config.patch(trace_autograd_ops=True):
                loss = self._step(x, y, self._rate)
        except Exception as error:
            why = str(error).strip() or type(error).__name__
            raise _CannotCompile(f"{why.splitlines()[0]:.200}") from None
        self._known.add(len(x))
        return loss


# Names that a compiled step reads and nobody writes: of PyTorch and of Python, and its own.
_FIXED = ("G['__import_torch", "G['torch']", "G['__builtins_dict", "G['sgd']", "G['adam']")
_OWN = ("update", "objective")


def _without_fixed(guards: Any) -> list[bool]:
    """Whether to look at each guard at every step; to look at all takes a sixth of a step of a small model."""
    names = [guard.name for guard in guards]
    return [not name.startswith(_OWN) and not any(fixed in name for fixed in _FIXED) for name in names]


def _update(optimizer: Any, trained: list[Any]) -> Callable[[list[Any], Any], None]:
    """What changes the parameters by their gradients and a learning rate, on the state of the optimizer."""
    group, states = optimizer.param_groups[0], [optimizer.state[one] for one in trained]
    if isinstance(optimizer, torch.optim.SGD):
        buffers = [state.get("momentum_buffer") for state in states]
        names = ("weight_decay", "momentum", "dampening", "nesterov", "maximize")
        settings = {name: group[name] for name in names}

        def descend(gradients: list[Any], rate: Any) -> None:
            sgd(trained, gradients, buffers, foreach=True, lr=rate, **settings)

        return descend
    slots = [[state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step")]
    largest = [state["max_exp_avg_sq"] for state in states] if group["amsgrad"] else []
    names = ("weight_decay", "eps", "amsgrad", "maximize", "decoupled_weight_decay")
    settings = {name: group[name] for name in names}
    settings["beta1"], settings["beta2"] = group["betas"]

    def adapt(gradients: list[Any], rate: Any) -> None:
        first, second, steps = slots
        # This form takes a learning rate that is a tensor; the compiler joins its many small operations.
        adam(trained, gradients, first, second, largest, steps, foreach=False, lr=rate, **settings)

    return adapt


def _rule(optimizer: Optimizer, trained: list[Any], fused: bool) -> Any:
    if isinstance(optimizer, SGD):
        return torch.optim.SGD(
            trained,
            lr=optimizer.learning_rate,
            momentum=optimizer.momentum,
            weight_decay=optimizer.weight_decay,
            fused=fused,
        )
    settings = {
        "lr": optimizer.learning_rate,
        "betas": (optimizer.beta1, optimizer.beta2),
        "eps": optimizer.epsilon,
        "fused": fused,
    }
    if isinstance(optimizer, Adam):
        return torch.optim.Adam(trained, **settings)
    return torch.optim.AdamW(trained, weight_decay=optimizer.weight_decay, **settings)
