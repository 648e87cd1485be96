"""Optimizers: PyTorch's Adam and AdamW, and Muon with AdamW for what is not a matrix."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from ase_equivariant.training.fit_config import OptimizerConfig

# Quintic whose iteration drives every singular value in (0, 1] close to 1 (Jordan 2024).
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5
# Root mean square of AdamW's steps in practice, to which Muon's are scaled (Liu et al. 2025).
_ADAM_RMS = 0.2
_WORTH_BFLOAT16 = 1 << 14  # numbers, below which conversions cost what they save
_OBLONG_BFLOAT16 = 6  # times as long as wide, from where on small products in float32 cost less than large ones in it


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> Optimizer:
    """The configured optimizer over all parameters that require gradients."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if config.name == "muon":
        return Muon(named, config.lr, config.momentum, config.betas, config.weight_decay)
    kind = Adam if config.name == "adam" else AdamW
    return kind(
        [p for _, p in named],
        lr=config.lr,
        betas=config.betas,
        weight_decay=config.weight_decay,
        amsgrad=config.amsgrad,
        fused=True,  # one kernel for all parameters: small networks have many small ones
    )


def orthogonalize(matrices: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrices U Vᵀ of matrices U S Vᵀ, (..., m, n), approximately.

    Newton-Schulz iteration ``X ← a X + (b X Xᵀ + c (X Xᵀ)²) X``; singular values end between
    about 0.7 and 1.2, which serves an optimizer. So much does not need the digits of float32:
    large stacks of matrices that are not too oblong are iterated in bfloat16 where the processor multiplies it at
    twice the rate and more.
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    stack = matrices.reshape(-1, *matrices.shape[-2:])
    x = stack if wide else stack.mT
    short = x.dtype == torch.float32 and x.numel() >= _WORTH_BFLOAT16 and _has_bfloat16(x.device.type)
    oblong = (_OBLONG_BFLOAT16 if short else 2) * x.shape[-2] <= x.shape[-1] and x.dtype != torch.bfloat16
    if short and not oblong:
        x = x.to(torch.bfloat16)
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-12)
    a, b, c = _NEWTON_SCHULZ
    if oblong:
        # All factors are polynomials of X Xᵀ: they are multiplied up in its small space. In bfloat16 rounding would
        # make eigenvalues of it negative, and the iteration drives those away.
        gram = x @ x.mT
        identity = torch.eye(x.shape[-2], dtype=x.dtype, device=x.device).expand_as(gram)
        product = identity
        for _ in range(_NEWTON_SCHULZ_STEPS):
            factor = torch.baddbmm(b * gram, gram, gram, alpha=c).add_(identity, alpha=a)
            product = factor @ product
            gram = factor @ (factor @ gram)
        x = product @ x
    else:
        for _ in range(_NEWTON_SCHULZ_STEPS):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices.dtype).reshape(matrices.shape)


@cache
def _has_bfloat16(device: str) -> bool:
    """Whether products of bfloat16 matrices are fast."""
    if device != "cpu":
        return device == "cuda"
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions of PyTorch
    return bool(capabilities.get("avx512_bf16"))


class Muon(Optimizer):
    """Momentum, orthogonalized, for weight matrices; AdamW for the rest.

    A parameter (..., m, n) with m, n > 1 is a stack of matrices, one for each species say.
    1. M ← μ M + g
    2. O = orthogonalize(g + μ M)  (Nesterov)
    3. W ← W − lr · (0.2 √max(m, n) · O + weight_decay · W)

    The factor gives the step the size of AdamW's, so that both parts share one learning rate. A matrix of a stack
    whose gradient is zero, as of a species that no structure of the batch has, makes no step: what is left of its
    momentum, be it ever so little, would be made a whole one.

    Parameters
    ----------
    named_parameters : iterable of (str, Parameter)
        Embeddings are tables of vectors, not maps, and go to AdamW.
    lr, momentum, betas, weight_decay : float
        As in :class:`OptimizerConfig`.

    References
    ----------
    Jordan et al. (2024), https://kellerjordan.github.io/posts/muon; Liu et al., arXiv:2502.16982.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, Tensor]],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ):
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        for name, parameter in named_parameters:
            is_map = parameter.ndim >= 2 and min(parameter.shape[-2:]) > 1 and "embedding" not in name
            (matrices if is_map else others).append(parameter)
        groups = [
            {"params": params, "algorithm": algorithm}
            for params, algorithm in ((matrices, "muon"), (others, "adamw"))
            if params
        ]
        super().__init__(
            groups, {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay, "eps": eps}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            if group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            (self._muon if group["algorithm"] == "muon" else self._adam)(parameters, group)
        return loss

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [cast(Tensor, p.grad) for p in parameters]  # step() has left out those without
        for p in parameters:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in parameters]
        torch._foreach_mul_(momenta, group["momentum"])  # 1
        torch._foreach_add_(momenta, gradients)
        nesterov = torch._foreach_add(gradients, momenta, alpha=group["momentum"])
        for gradient, step in zip(gradients, nesterov, strict=True):
            if gradient.ndim > 2:
                step *= torch.linalg.vector_norm(gradient, dim=(-2, -1), keepdim=True) > 0
        by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
        for k, p in enumerate(parameters):
            by_shape[(p.shape[-2], p.shape[-1])].append(k)
        for (m, n), places in by_shape.items():  # all matrices of one shape in one batched product
            updates = orthogonalize(torch.cat([nesterov[k].view(-1, m, n) for k in places]))  # 2
            steps = updates.split([parameters[k].numel() // (m * n) for k in places])
            size = -group["lr"] * _ADAM_RMS * math.sqrt(max(m, n))
            shaped = [step.view(parameters[k].shape) for k, step in zip(places, steps, strict=True)]
            torch._foreach_add_([parameters[k] for k in places], shaped, alpha=size)  # 3

    def _adam(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        for p in parameters:
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float64)
                state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] += 1
            state["mean"].lerp_(p.grad, 1 - beta1)
            state["square"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
            step = float(state["step"])
            root = (state["square"] / (1 - beta2**step)).sqrt_().add_(group["eps"])
            p.addcdiv_(state["mean"], root, value=-group["lr"] / (1 - beta1**step))
