"""What OpenVLA-OFT (arXiv 2502.19645) adds to the network: a head that regresses actions, and proprioception."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

CHUNK, DIMS = 8, 7
PROPRIO = 8
"""Numbers of proprioception: position (3), axis-angle (3), fingers (2)."""


class ResidualBlock(nn.Module):
    """Norm, linear layer, ReLU, and the input again."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """``(..., E)`` to ``(..., E)``."""
        return cast(Tensor, x + self.ffn(x))


class ResidualMlp(nn.Module):
    """Hidden states of one action's tokens, side by side, to its numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(DIMS * width)
        self.fc1 = nn.Linear(DIMS * width, width)
        self.mlp_resnet_blocks = nn.ModuleList(ResidualBlock(width) for _ in range(2))
        self.layer_norm2 = nn.LayerNorm(width)
        self.fc2 = nn.Linear(width, DIMS)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., 7 E)`` to ``(..., 7)``."""
        x = functional.relu(self.fc1(self.layer_norm1(x)))
        for block in self.mlp_resnet_blocks:
            x = block(x)
        return cast(Tensor, self.fc2(self.layer_norm2(x)))


class ActionHead(nn.Module):
    """The head that was trained with an L1 loss, for deployment; it has no probabilities, so RL cannot use it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.model = ResidualMlp(width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states ``(B, K * A, E)`` to values ``(B, K, A)``."""
        return cast(Tensor, self.model(hidden.unflatten(1, (CHUNK, DIMS)).flatten(2)))


class ProprioProjector(nn.Module):
    """Proprioception as one token of the language model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(PROPRIO, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, proprio: Tensor) -> Tensor:
        """Normalised proprioception ``(B, 8)`` to a token ``(B, 1, E)``."""
        return cast(Tensor, self.fc2(functional.gelu(self.fc1(proprio)))[:, None])
