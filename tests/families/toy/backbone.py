"""Velocity by one hidden layer, which the text and t scale and shift. Knows latents and Conditioning; knows no words."""

import torch
from torch import nn


class Backbone(nn.Module):
    def __init__(self, channels, width, text):
        super().__init__()
        self.read = nn.Conv2d(channels, width, 3, padding=1)
        self.film = nn.Linear(16 + text, 2 * width)
        self.say = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x_BChw, t_B, cond):
        waves_B8 = t_B[:, None] * 2.0 ** torch.arange(8, device=t_B.device)  # in float32: autocast rounds no t
        seen_BD = torch.cat([waves_B8.sin(), waves_B8.cos(), cond["text"]], 1)
        scale, shift = self.film(seen_BD)[:, :, None, None].chunk(2, 1)
        return self.say(nn.functional.silu(self.read(x_BChw) * (1 + scale) + shift)).float()

    def blocks(self):
        return [self.film]

    def export_state(self):
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}
